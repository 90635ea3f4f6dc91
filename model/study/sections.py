"""Sections of a study besides the comparison: subsets of the modalities, completion, and absence at prediction."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from nmcl.model.data import Dataset
from nmcl.model.evaluate import f1
from nmcl.model.feature_table import FeatureTable
from nmcl.model.study.folds import Fold, fit_completer, fold, rows
from nmcl.model.study.results import AbsenceScores, CompleterScores, CompletionLevel, spread
from nmcl.model.study.runner import Runner
from nmcl.model.study.trials import Outcome, Trial, run
from nmcl.model.trained import fit
from nmcl.pipeline import completion
from nmcl.pipeline.completion import COMPLETERS, CompletionSettings
from nmcl.pipeline.completion.held_out import nrmse
from nmcl.pipeline.completion.scaling import fit_scaling
from nmcl.pipeline.completion.table import check

MOST_MODALITIES = 4
"""Number of modalities above which only singles, pairs and all but one are studied, as subsets grow exponentially."""
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PROBE = "logistic"
"""Classifier of the completion study: fast, and the same for every completer."""


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the proper subsets of the modalities, smallest first; see `MOST_MODALITIES`."""
    sizes = range(1, len(names)) if len(names) <= MOST_MODALITIES else sorted({1, 2, len(names) - 1})
    return [subset for size in sizes for subset in itertools.combinations(sorted(names), size)]


def study_subsets(
    folds: Sequence[Fold], method: str, settings: Any, completer: CompletionSettings, runner: Runner
) -> dict[tuple[str, ...], list[Outcome]]:
    """Run one method on each proper subset of the modalities (Tables 3 and 4), on the folds' own splits.

    Missing modalities of a subset are completed from that subset alone.
    """
    wanted = subsets(list(folds[0].table.modalities))
    trials = []
    for subset in wanted:
        for whole in folds:
            table = replace(whole.table.only(subset), split=whole.split)
            trials.append(Trial(method, settings, fold(table, whole.seed, completer), whole.seed))
    found = iter(runner.side_by_side("modalities", run, trials, lambda trial: "+".join(trial.fold.train.dims)))
    return {subset: [next(found) for _ in folds] for subset in wanted}


@dataclass(frozen=True)
class HiddenBlocks:
    """Work item: one completer at one hidden share."""

    whole: Fold
    hidden: float
    completer: str
    settings: CompletionSettings

    @property
    def recipe(self) -> dict[str, Any]:
        """See `runner.Item`."""
        return {
            "rows": self.whole.digest,
            "hidden": self.hidden,
            "completer": self.completer,
            "completion": completion.address(self.settings),
        }


def study_completion(whole: Fold, settings: CompletionSettings, runner: Runner) -> tuple[CompletionLevel, ...]:
    """Score each completer on whole blocks hidden at random, with hidden shares from 10 to 90 %.

    A row keeps at least one modality. Completers are fitted on training rows with blocks hidden in the same way; errors
    are those of hidden blocks of test rows, and macro-F1 is that of a logistic regression on the incomplete test rows.
    """
    items = [HiddenBlocks(whole, hidden, name, settings) for hidden in LEVELS for name in COMPLETERS]
    found = iter(runner.side_by_side("completion", _hide, items, lambda item: f"{item.hidden:.0%} {item.completer}"))
    return tuple(CompletionLevel(hidden, {name: next(found) for name in COMPLETERS}) for hidden in LEVELS)


def _hide(item: HiddenBlocks) -> CompleterScores:
    whole, table = item.whole, item.whole.table
    hidden = hide(table, item.hidden, whole.seed)
    left = replace(
        table,
        modalities={
            n: np.where(hidden[n][:, None], np.float32(np.nan), block) for n, block in table.modalities.items()
        },
    )
    settings = replace(item.settings, method=item.completer)  # type: ignore[arg-type]  # one of COMPLETERS
    state = fit_completer(left, whole.split == "train", settings)
    errors = _errors(table, left, hidden, whole.split, state)
    train, test = rows(left, whole.split == "train", state), rows(left, whole.split == "test", state)
    validation = rows(left, whole.split == "validation", state)
    judge = fit(PROBE, train, validation, table.classes, seed=whole.seed)
    incomplete = ~np.all(list(test.observed.values()), axis=0)
    macro = None
    if incomplete.any():
        predicted = judge.predict(test.modalities, test.observed, test.terms).probability.argmax(axis=1)
        macro = f1(test.label[incomplete], predicted[incomplete])[1]
    squares = [error**2 for error in errors.values() if error is not None]
    overall = float(np.sqrt(np.mean(squares))) if squares else None
    return CompleterScores(overall, errors, spread([macro]) if macro is not None else spread([]))


def hide(table: FeatureTable, share: float, seed: int) -> dict[str, np.ndarray]:
    """Choose the observed blocks to hide, shape (N,), bool each, with probability `share`, but never a row's last."""
    random = np.random.default_rng((seed, round(1000 * share)))
    names = list(table.modalities)
    observed = np.stack([~np.isnan(table.modalities[name][:, 0]) for name in names], axis=1)
    hidden = (random.random(observed.shape) < share) & observed
    last = ~(observed & ~hidden).any(axis=1)
    kept = np.where(observed, random.random(observed.shape), -1.0).argmax(axis=1)
    hidden[last, kept[last]] = False
    return {name: hidden[:, i] for i, name in enumerate(names)}


def _errors(
    table: FeatureTable, left: FeatureTable, hidden: Mapping[str, np.ndarray], split: np.ndarray, state: Any
) -> dict[str, float | None]:
    """Return the NRMSE of hidden test blocks in units standardised on training rows: about 1 for the mean."""
    training = {name: block[split == "train"] for name, block in left.modalities.items()}
    scaling = fit_scaling(check(training), balance=False)
    test = {name: block[split == "test"] for name, block in left.modalities.items()}
    with threadpool_limits(1):
        filled = completion.complete(test, state)
    errors: dict[str, float | None] = {}
    for name, block in filled.items():
        at = hidden[name][split == "test"]
        errors[name] = nrmse(scaling, name, table.modalities[name][split == "test"][at], block[at])
    return errors


Handling = Literal["completed", "masked"]


def study_absence(
    folds: Sequence[Fold], outcomes: Mapping[Handling, Sequence[Outcome]]
) -> dict[str, dict[Handling, AbsenceScores]]:
    """Return NMCL's scores if a modality is absent from every test row, for each way of handling it.

    Args:
        folds: the folds.
        outcomes: one outcome with its model per fold, trained to use completed vectors or to mask absent ones.
    """
    found: dict[str, dict[Handling, AbsenceScores]] = {}
    for name in folds[0].table.modalities:
        found[name] = {}
        for handling, of_folds in outcomes.items():
            scores = [_without(name, whole, outcome) for whole, outcome in zip(folds, of_folds, strict=True)]
            before = np.mean([f1(o.label, o.probability.argmax(axis=1))[1] for o in of_folds])
            micro, macro = spread([s[0] for s in scores]), spread([s[1] for s in scores])
            found[name][handling] = AbsenceScores(micro, macro, float(before) - (macro.mean or 0.0))
    return found


def _without(name: str, whole: Fold, outcome: Outcome) -> tuple[float, float]:
    test = without(whole, name)
    assert outcome.trained is not None
    predicted = outcome.trained.predict(test.modalities, test.observed, test.terms).probability.argmax(axis=1)
    return f1(test.label, predicted)


def without(whole: Fold, name: str) -> Dataset:
    """Return the test rows with one modality absent and completed from the others."""
    table = whole.table
    absent = {n: np.full_like(block, np.nan) if n == name else block for n, block in table.modalities.items()}
    return rows(replace(table, modalities=absent), whole.split == "test", whole.completer)
