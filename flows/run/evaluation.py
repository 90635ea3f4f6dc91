"""Metrics of a run, and its predictions for every video of the store."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nmcl.flows.run.plan import Plan
from nmcl.flows.run.prediction import failures_of, probabilities, status
from nmcl.flows.settings import to_tree
from nmcl.model.checkpoint import load as load_model
from nmcl.model.data import Dataset
from nmcl.model.evaluate import Evaluation, evaluate
from nmcl.model.trained import Trained, fit_alone
from nmcl.pipeline.features import FeatureRows, class_indices
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import SPLITS, Split, State
from nmcl.pipeline.stages.complete import load_all_terms, load_completed, load_features
from nmcl.pipeline.storage.artifacts import load_state
from nmcl.pipeline.storage.failures import Failure
from nmcl.pipeline.storage.run_files import Completion, Metrics, SplitScores, Timing
from nmcl.pipeline.storage.runs import Run

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Evaluated:
    """Everything that the metrics and the report are computed from."""

    plan: Plan
    trained: Trained
    completed: FeatureRows
    completion: State
    probability: np.ndarray
    """Probabilities of all N videos of the store: shape (N, K), float32, NaN rows if no modality is known."""
    failures: list[tuple[Failure, ...]]
    """Failures of each video."""
    rows: dict[Split, np.ndarray]
    """Usable videos of each split: shape (N,), bool."""
    scored: dict[Split, np.ndarray]
    """Probabilities of the validation and test videos by models that were not fitted to them: shape (N, K)."""
    validation: Evaluation
    test: Evaluation
    alone: dict[str, np.ndarray]
    """Probabilities by the same model trained on one feature set alone: shape (N, K), float32, NaN rows without it."""
    alone_scores: dict[str, SplitScores]
    """Its test scores, with missing vectors replaced by the training mean."""


def stored_model(run: Run) -> Trained:
    """Return the model of a run."""
    with run.store.folder_to_read(run.folder) as folder:
        return load_model(folder)


def measure(plan: Plan, progress: Progress) -> Evaluated:
    """Predict every video, and score the splits."""
    store = plan.store
    trained = stored_model(plan.result)
    completed = load_completed(store, plan.catalogue, plan.completed)
    probability = probabilities(trained, completed)
    rows = {split: rows_of(plan, completed, split) for split in SPLITS}
    labels = labels_of(plan)
    alone, alone_scores = _alone(plan, trained, rows, labels, progress)
    scored: dict[Split, np.ndarray] = {s: probability[rows[s]] for s in SPLITS if s != "train"}
    if trained.held_out is not None:
        scored["validation"] = trained.held_out
    validation, test = (evaluate(p, labels[rows[split]], trained.classes) for split, p in scored.items())
    return Evaluated(
        plan=plan,
        trained=trained,
        completed=completed,
        completion=load_state(store, plan.completion),
        probability=probability,
        failures=failures_of(store, plan.failures, plan.catalogue, plan.videos),
        rows=rows,
        scored=scored,
        validation=validation,
        test=test,
        alone=alone,
        alone_scores=alone_scores,
    )


def rows_of(plan: Plan, completed: FeatureRows, split: Split) -> np.ndarray:
    """Return which videos of a split have any modality: shape (N,), bool."""
    in_split: np.ndarray = np.array([a.split == split for a in plan.splits.assignments])
    rows: np.ndarray = in_split & completed.usable
    return rows


def unlabelled_rows(plan: Plan, completed: FeatureRows) -> np.ndarray:
    """Return which videos have any modality and no label: shape (N,), bool."""
    unlabelled: np.ndarray = np.array([video.venue is None for video in plan.videos])
    rows: np.ndarray = unlabelled & completed.usable
    return rows


def labels_of(plan: Plan) -> np.ndarray:
    """Return the class index of each video's label, -1 without a class: shape (N,), int64."""
    return class_indices([video.venue for video in plan.videos], plan.splits.classes)


def dataset(completed: FeatureRows, labels: np.ndarray, rows: np.ndarray) -> Dataset:
    """Return a dataset of some of the videos, for training or testing."""
    chosen = completed.take(rows)
    return Dataset(chosen.modalities, chosen.observed, labels[rows], terms=chosen.terms)


def _alone(
    plan: Plan, trained: Trained, rows: dict[Split, np.ndarray], labels: np.ndarray, progress: Progress
) -> tuple[dict[str, np.ndarray], dict[str, SplitScores]]:
    """Return what `Evaluated.alone` and `alone_scores` hold (the paper's Table 3).

    A missing vector is replaced by the training mean: a completed one would bring in the other modalities.
    """
    features = {name: load_features(plan.store, plan.catalogue, a) for name, a in plan.features.items()}
    terms = load_all_terms(plan.store, plan.catalogue, plan.features)
    bare = without_completion(features, rows["train"], terms)
    train, validation = (dataset(bare, labels, rows[split]) for split in SPLITS if split != "test")
    models = fit_alone(trained.name, train, validation, trained.classes, trained.settings, trained.seed, progress)
    probability = {
        name: model.predict({name: bare.modalities[name]}, {name: bare.observed[name]}, bare.terms).probability
        for name, model in models.items()
    }
    tested, label = rows["test"], labels[rows["test"]]
    scores = {name: evaluate(p[tested], label, trained.classes).scores for name, p in probability.items()}
    return {n: np.where(bare.observed[n][:, None], p, np.float32(np.nan)) for n, p in probability.items()}, scores


def without_completion(
    features: Mapping[str, np.ndarray], train_rows: np.ndarray, terms: Mapping[str, "csr_array"] | None = None
) -> FeatureRows:
    """Return features with absent rows set to the mean of the observed training rows, or to zeros if there are none.

    Args:
        terms: Term weights of the feature sets that have some, which stay as they are.
    """
    observed: dict[str, np.ndarray] = {m: ~np.isnan(block).any(axis=1) for m, block in features.items()}
    vectors: dict[str, np.ndarray] = {}
    for modality, block in features.items():
        seen = block[observed[modality] & train_rows]
        mean = seen.mean(axis=0) if len(seen) else np.zeros(block.shape[1], np.float32)
        vectors[modality] = np.where(observed[modality][:, None], block, mean)
    return FeatureRows(vectors, observed, terms=terms or {})


def metrics_of(evaluated: Evaluated, seconds: dict[str, float]) -> Metrics:
    """Return the metrics that are stored of an evaluation."""
    plan, completion = evaluated.plan, evaluated.completion.info
    return Metrics(
        test=evaluated.test.scores,
        validation=evaluated.validation.scores,
        modalities=evaluated.alone_scores,
        counts=counts_of(evaluated),
        notices=tuple(notices_of(evaluated)),
        seconds=seconds,
        extract_seconds=extract_seconds_of(plan),
        classes=evaluated.trained.classes,
        set_aside=plan.splits.set_aside,
        completion=Completion(completion["method"], completion["held_out"]),
        autoencoder={"held_out_relative_error": _reconstruction_error(plan)},
        diagnostics=evaluated.trained.diagnostics,
        settings=to_tree(plan.settings),
    )


def _reconstruction_error(plan: Plan) -> float | None:
    """Return the autoencoder's squared error on held-out sound over that of the mean frame, if there is one."""
    for artifact in plan.states.values():
        if (error := load_state(plan.store, artifact).info.get("held_out_relative_error")) is not None:
            return float(error)
    return None


def counts_of(evaluated: Evaluated) -> dict[str, int]:
    """Count the videos of the store by outcome. A failed video is in no split and lacks no modality."""
    plan, usable = evaluated.plan, evaluated.completed.usable
    became = Counter(status(f, bool(known)) for f, known in zip(evaluated.failures, usable, strict=True))
    missing = {f"missing_{m}": int((usable & ~observed).sum()) for m, observed in evaluated.completed.observed.items()}
    return {
        "videos": len(plan.videos),
        "failed": became["failed"],
        "partial": became["partial"],
        "duplicates": sum(video.duplicate_of is not None for video in plan.videos),
        "unlabelled": sum(video.venue is None for video in plan.videos),
        "set_aside": sum(a.set_aside is not None for a in plan.splits.assignments),
        **missing,
        **{split: int(rows.sum()) for split, rows in evaluated.rows.items()},
    }


def notices_of(evaluated: Evaluated) -> Iterable[str]:
    """Yield notices that qualify the numbers of the report."""
    settings = evaluated.plan.settings
    for name in settings.random_sets:
        yield f"The network of the feature set {name} has random weights: its vectors carry little meaning."
    for modality, observed in evaluated.completed.observed.items():
        if not observed.any():
            yield f"No video has a {modality} vector: that modality is all zeros."
    yield from evaluated.plan.splits.notes


def extract_seconds_of(plan: Plan) -> dict[str, float]:
    """Return the seconds within `extract`, summed over its parts; see `nmcl.pipeline.stages.extract.Receipt`."""
    return dict(_timing(plan, f"extract-{plan.work}").spent)


def seconds_of(plan: Plan) -> dict[str, float]:
    """Return the wall-clock seconds that each stage worked for this run, over all its interruptions."""
    kept = {
        "ingest": "ingest",
        **{stage: f"{stage}-{plan.work}" for stage in ("fit", "extract", "complete")},
        "train": f"train-{plan.run.address}",
    }
    return {stage: _timing(plan, name).seconds for stage, name in kept.items()}


def _timing(plan: Plan, name: str) -> Timing:
    return plan.store.find_record(f"timings/{name}.json", Timing) or Timing(0.0)
