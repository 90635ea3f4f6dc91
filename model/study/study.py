"""The comparative study: every method on the same folds, Tables 2 to 5, and the data of the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

import numpy as np

from nmcl.model.evaluate import Curve, evaluate, f1, macro_f1
from nmcl.model.feature_table import FeatureTable
from nmcl.model.nmcl.nmcl import NMCLSettings
from nmcl.model.registry import MODELS, Method
from nmcl.model.statistics import bootstrap, mcnemar_test, paired_t_test, permutation_test
from nmcl.model.study.figures import of_reference
from nmcl.model.study.folds import Fold, fold, split_of
from nmcl.model.study.learning_curves import Point, study_learning_curves
from nmcl.model.study.results import (
    AbsenceScores,
    LabelShare,
    MethodRow,
    Rows,
    ScoreRow,
    Spread,
    StudyData,
    spread,
)
from nmcl.model.study.results import Trial as Tried
from nmcl.model.study.runner import Runner, default_jobs
from nmcl.model.study.sections import Handling, study_absence, study_completion, study_subsets
from nmcl.model.study.trials import Outcome, Trial, run
from nmcl.model.study.tuning import tune
from nmcl.pipeline import completion
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import SPLITS
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import joined

REFERENCE = "nmcl"
"""Method that the others are tested against, and that Tables 3 to 5 and the figures show."""
STACKED, PAPER = "nmcl_stacked", "nmcl_paper"
VARIANTS = ("variant_1", "variant_2", "variant_3", "variant_4")
TUNED_ONCE = (
    "Settings were searched on the validation rows of the first split. Some of these are test rows of other splits, so "
    "scores may be too high; a table with a split of its own has no such overlap."
)
Section = Literal["modalities", "completion", "absence"]


@dataclass(frozen=True)
class StudySettings:
    """Frozen settings of a study."""

    methods: tuple[str, ...] = tuple(MODELS)
    seeds: int = 5
    budget: int = 0
    """Trials per method of the search on validation rows; 0 uses the defaults."""
    jobs: int | None = None
    """Number of parallel trials; None for one per core."""
    skip: tuple[Section, ...] = ()
    """Sections to skip."""
    learning_curves: bool = False
    """Whether to run all methods with fewer labels, too; see `nmcl.model.study.learning_curves`."""


def study(
    table: FeatureTable,
    settings: StudySettings,
    models: Mapping[str, Method] = MODELS,
    progress: Progress = silent,
    store: Store | None = None,
) -> tuple[StudyData, dict[str, np.ndarray]]:
    """Compare methods on a table.

    A table without its own split is split again for every seed; otherwise seeds change only the methods' random
    numbers. Everything is fitted on training rows and chosen on validation rows; a search with a `budget` on those of
    the first split alone.

    Args:
        table: the labelled rows.
        settings: settings of the study.
        models: registry entries by name.
        progress: progress callback.
        store: store with the findings of an earlier, unfinished study, which are not computed again.

    Returns:
        The results, without title, date and command; and the test predictions of every method and seed by name, with
        their labels and row numbers.
    """
    train = split_of(table, 0) == "train"
    first = table.fitted_on(train)
    n_bytes = sum(block.nbytes for block in first.modalities.values())
    runner = Runner(settings.jobs or default_jobs(n_bytes), progress, store)
    completer = _completer(first, train, progress)
    folds = _folds(table, first, settings.seeds, completer)
    methods = {name: models[name] for name in settings.methods if first.terms or not models[name].needs_terms}
    if left_out := [name for name in settings.methods if name not in methods]:
        note = f"{joined(left_out)}: left out, as no feature set has sparse terms; ngrams makes some."
        table = replace(table, notes=(*table.notes, note))
    if not methods:
        raise ModelError(f"No method is left. {table.notes[-1]}")
    chosen = {name: method.settings for name, method in methods.items()}
    tried: dict[str, list[Tried]] = {}
    if settings.budget:
        chosen, tried = tune(methods, folds[0], settings.budget, runner)
        if _is_resplit(folds):
            table = replace(table, notes=(*table.notes, TUNED_ONCE))
    outcomes = _compare(folds, chosen, methods, runner)
    data = StudyData(
        title="",
        created="",
        rows=Rows(*(int((folds[0].split == part).sum()) for part in SPLITS)),
        dims={name: block.shape[1] for name, block in first.modalities.items()},
        n_classes=len(table.classes),
        seeds=range(settings.seeds),
        methods=[_method_row(name, outcomes, folds) for name in outcomes],
        tested="splits" if _is_resplit(folds) else "rows",
        variants=_variant_rows(outcomes, folds),
        roc=_curves(outcomes, table.classes),
        notices=table.notes,
        tuning=tried,
    )
    if settings.learning_curves:
        points = study_learning_curves(folds, chosen, outcomes, runner)
        data = replace(data, learning_curves=[_label_share(point, folds) for point in points])
    if len(first.modalities) > 1 and "completion" not in settings.skip:
        data = replace(data, completion=study_completion(folds[0], completer, runner))
    if STACKED in outcomes:
        data = replace(data, notices=[*data.notices, _stacking_note(outcomes[STACKED])])
    if REFERENCE in outcomes:
        data = of_reference(data, folds[0], outcomes[REFERENCE])
        subject = _Subject(folds, outcomes[REFERENCE], chosen[REFERENCE], runner)
        if "modalities" not in settings.skip:
            data = _of_subsets(data, subject, completer)
        if len(first.modalities) > 1 and "absence" not in settings.skip:
            data = replace(data, absence=_of_absence(subject))
    return data, predictions(outcomes, folds)


def _completer(first: FeatureTable, train: np.ndarray, progress: Progress) -> CompletionSettings:
    """Choose the completer with the smallest error on hidden blocks of the first fold's training rows."""
    settings = CompletionSettings()
    progress("completer", 0, 1, "")
    blocks = {name: block[train] for name, block in first.modalities.items()}
    method = completion.best(completion.compare(blocks, settings))
    progress("completer", 1, 1, method)
    return replace(settings, method=method)  # type: ignore[arg-type]  # one of COMPLETERS


def _folds(table: FeatureTable, first: FeatureTable, seeds: int, completer: CompletionSettings) -> list[Fold]:
    """Return one fold per seed; `first` is the table with the modalities fitted for seed 0."""
    whole = fold(first, 0, completer)
    if table.split is not None:
        return [replace(whole, seed=seed) for seed in range(seeds)]
    return [whole, *(fold(table, seed, completer) for seed in range(1, seeds))]


def _compare(
    folds: Sequence[Fold], chosen: Mapping[str, Any], methods: Mapping[str, Method], runner: Runner
) -> dict[str, list[Outcome]]:
    """Return the outcome of each method by fold. Where no result depends on the seed, a method is trained once."""
    once = folds[:1] if folds[0].table.split is not None else folds
    own = {name: folds if methods[name].is_seeded else once for name in chosen}
    trials = [
        Trial(name, chosen[name], rows, rows.seed, keep=name in (REFERENCE, STACKED))
        for name, of_method in own.items()
        for rows in of_method
    ]
    found = iter(runner.side_by_side("methods", run, trials, lambda trial: f"{trial.method} {trial.seed}"))
    outcomes = {name: [next(found) for _ in of_method] for name, of_method in own.items()}
    return {
        name: [replace(o, seed=rows.seed) for o, rows in zip(cycle(of_method), folds, strict=False)]
        for name, of_method in outcomes.items()
    }


def predictions(outcomes: Mapping[str, Sequence[Outcome]], folds: Sequence[Fold]) -> dict[str, np.ndarray]:
    """Return the test predictions as arrays by name: `label/SEED` and `row/SEED` (N,), and `METHOD/SEED` (N, K).

    `row` is the number of a test row among all rows of the study.
    """
    arrays = {f"label/{fold.seed}": fold.test.label for fold in folds}
    arrays |= {f"row/{fold.seed}": np.flatnonzero(fold.split == "test") for fold in folds}
    return arrays | {f"{name}/{o.seed}": o.probability for name, of_seeds in outcomes.items() for o in of_seeds}


def _method_row(name: str, outcomes: Mapping[str, Sequence[Outcome]], folds: Sequence[Fold]) -> MethodRow:
    """Return a row of Table 2."""
    of_seeds = outcomes[name]
    scores = [evaluate(o.probability, o.label, folds[0].classes).scores for o in of_seeds]
    row = MethodRow(
        name=name,
        micro_f1=_spread_of_known([s.micro_f1 for s in scores]),
        macro_f1=_spread_of_known([s.macro_f1 for s in scores]),
        auc_micro=_spread_of_known([s.auc_micro for s in scores]),
        auc_macro=_spread_of_known([s.auc_macro for s in scores]),
        top5=_spread_of_known([s.top5 for s in scores]),
        ece=_spread_of_known([s.ece for s in scores]),
        ece_if_calibrated=_spread_of_known([s.ece_if_calibrated for s in scores]),
        train_seconds=float(np.mean([o.seconds for o in of_seeds])),
        parameters=of_seeds[0].n_parameters,
    )
    if name == REFERENCE or REFERENCE not in outcomes:
        return row
    reference = outcomes[REFERENCE]
    label, own, other, test_rows = _pooled(of_seeds, reference, folds)
    right, right_too = (o.probability.argmax(axis=1) == o.label for o in (of_seeds[0], reference[0]))
    return replace(
        row,
        p_value=paired_t_test(_values(of_seeds, 0), _values(reference, 0)),
        macro_p_value=paired_t_test(_values(of_seeds, 1), _values(reference, 1)),
        corrected_p_value=paired_t_test(_values(of_seeds, 1), _values(reference, 1), _overlap(folds)),
        verdict_p_value=_verdict_p_value(of_seeds, reference, folds),
        mcnemar_p_value=mcnemar_test(right, right_too) if (right != right_too).any() else None,
        macro_interval=bootstrap(macro_f1, label, own, other, test_rows),
    )


def _is_resplit(folds: Sequence[Fold]) -> bool:
    """Return whether several seeds have splits of their own."""
    return folds[0].table.split is None and len(folds) > 1


def _overlap(folds: Sequence[Fold]) -> float:
    """Return the ratio of test to training rows; 0 if all seeds share one split."""
    return float((folds[0].split == "test").sum() / (folds[0].split == "train").sum()) if _is_resplit(folds) else 0.0


def _verdict_p_value(of_seeds: Sequence[Outcome], reference: Sequence[Outcome], folds: Sequence[Fold]) -> float | None:
    """Return the p-value of macro-F1 by the test of `StudyData.tested`."""
    if _is_resplit(folds):
        return paired_t_test(_values(of_seeds, 1), _values(reference, 1), _overlap(folds))
    label, own, other, test_rows = _pooled(of_seeds, reference, folds)
    return permutation_test(macro_f1, label, own, other, test_rows)


def _pooled(
    of_seeds: Sequence[Outcome], reference: Sequence[Outcome], folds: Sequence[Fold]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, both predictions and row numbers of the test rows of all seeds, shape (N,) each."""
    return (
        np.concatenate([o.label for o in of_seeds]),
        np.concatenate([o.probability.argmax(axis=1) for o in of_seeds]),
        np.concatenate([o.probability.argmax(axis=1) for o in reference]),
        np.concatenate([np.flatnonzero(fold.split == "test") for fold in folds]),
    )


def _values(of_seeds: Sequence[Outcome], which: int) -> np.ndarray:
    """Return micro (0) or macro-F1 (1) of each seed."""
    return np.array([f1(o.label, o.probability.argmax(axis=1))[which] for o in of_seeds])


def _spread_of_known(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return spread(known) if known else Spread()


def _variant_rows(outcomes: Mapping[str, Sequence[Outcome]], folds: Sequence[Fold]) -> list[ScoreRow]:
    """Return the rows of Table 5; empty without a variant."""
    names = [name for name in (*VARIANTS, PAPER, STACKED, REFERENCE) if name in outcomes]
    return [_score_row(name, outcomes, folds) for name in names] if set(names) & set(VARIANTS) else []


def _score_row(name: str, outcomes: Mapping[str, Sequence[Outcome]], folds: Sequence[Fold]) -> ScoreRow:
    """Return a row of Table 5."""
    micro, macro = _values(outcomes[name], 0), _values(outcomes[name], 1)
    against = outcomes.get(REFERENCE) if name != REFERENCE else None
    return ScoreRow(
        name,
        spread(list(micro)),
        spread(list(macro)),
        paired_t_test(micro, _values(against, 0)) if against else None,
        paired_t_test(macro, _values(against, 1)) if against else None,
        _verdict_p_value(outcomes[name], against, folds) if against else None,
    )


def _label_share(point: Point, folds: Sequence[Fold]) -> LabelShare:
    alone = spread(list(_values(point.outcomes, 1)))
    if not point.with_unlabelled:
        return LabelShare(point.method, point.share, point.n_labels, alone)
    p_value = _verdict_p_value(point.with_unlabelled, point.outcomes, folds)
    both = spread(list(_values(point.with_unlabelled, 1)))
    return LabelShare(point.method, point.share, point.n_labels, alone, both, p_value)


def _curves(outcomes: Mapping[str, Sequence[Outcome]], classes: tuple[str, ...]) -> dict[Any, dict[str, Curve]]:
    """Return the ROC curves of Fig. 4, over the test rows of all seeds together."""
    found: dict[Any, dict[str, Curve]] = {"micro": {}, "macro": {}}
    for name, of_seeds in outcomes.items():
        pooled = np.concatenate([o.probability for o in of_seeds]), np.concatenate([o.label for o in of_seeds])
        for kind, curve in evaluate(*pooled, classes).roc.items():
            found[kind][name] = curve
    return found


@dataclass(frozen=True)
class _Subject:
    """NMCL's folds, outcomes and settings for the additional sections."""

    folds: Sequence[Fold]
    outcomes: Sequence[Outcome]
    settings: NMCLSettings
    runner: Runner


def _stacking_note(outcomes: Sequence[Outcome]) -> str:
    """Return a notice about the shares of the stacked models in the prediction."""
    of_seeds = [outcome.trained.diagnostics["stacking"] for outcome in outcomes if outcome.trained]
    shares = [f"{name} has {_range([of_seed[name] for of_seed in of_seeds])}" for name in of_seeds[0]]
    return f"Of the weight in {STACKED}, fitted by cross-validation, {joined(shares)}; the network has the rest."


def _range(shares: Sequence[float]) -> str:
    low, high = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return low if low == high else f"{low} to {high}"


def _of_subsets(data: StudyData, subject: _Subject, completer: CompletionSettings) -> StudyData:
    """Add Tables 3 and 4."""
    of_subsets = study_subsets(subject.folds, REFERENCE, subject.settings, completer, subject.runner)
    by_name: dict[str, Sequence[Outcome]] = {"+".join(subset): of_seeds for subset, of_seeds in of_subsets.items()}
    by_name["+".join(data.dims)] = subject.outcomes
    return replace(
        data,
        modalities=[_subset_row(name, of_seeds, subject) for name, of_seeds in by_name.items()],
        enhanced={
            name: {m: spread(list(_branch(of_seeds, m))) for m in of_seeds[0].per_modality}
            for name, of_seeds in by_name.items()
            if len(of_seeds[0].per_modality) > 1
        },
    )


def _of_absence(subject: _Subject) -> dict[str, dict[Handling, AbsenceScores]]:
    """Return the loss of F1 without each modality, if it is completed and if it is masked."""
    settings = replace(subject.settings, missing="masked")
    masked = [Trial(REFERENCE, settings, rows, rows.seed, keep=True) for rows in subject.folds]
    return study_absence(
        subject.folds,
        {
            "completed": subject.outcomes,
            "masked": subject.runner.side_by_side("absence", run, masked, lambda t: f"{t.seed}"),
        },
    )


def _subset_row(name: str, of_seeds: Sequence[Outcome], subject: _Subject) -> ScoreRow:
    """Return a row of Table 3, tested against all modalities."""
    outcomes = {name: of_seeds} if of_seeds is subject.outcomes else {name: of_seeds, REFERENCE: subject.outcomes}
    return _score_row(name, outcomes, subject.folds)


def _branch(of_seeds: Sequence[Outcome], modality: str) -> np.ndarray:
    """Return the micro-F1 of one modality's branch by seed."""
    return np.array([f1(o.label, o.per_modality[modality].argmax(axis=1))[0] for o in of_seeds])
