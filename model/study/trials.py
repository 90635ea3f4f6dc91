"""Training one method once, and many such trials side by side."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError

from model.base import Epoch, Scores
from model.evaluate import f1
from model.study.folds import Fold
from model.trained import Trained, fit
from pipeline.errors import ModelError, WorkerError
from pipeline.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

MAX_SHARED_BYTES = 1 << 30
"""Larger tables are worked on by one process with all threads: each further one would hold its own copy."""


@dataclass(frozen=True)
class Trial:
    """One method on one fold."""

    method: str
    settings: Any
    fold: Fold
    seed: int
    keep: bool = False
    """Whether the outcome holds the trained model."""


@dataclass(frozen=True)
class Outcome:
    """What a trial gave."""

    method: str
    seed: int
    label: np.ndarray
    """Of the test rows, shape (N,)."""
    probability: np.ndarray
    """Of the test rows, shape (N, K), float32."""
    per_modality: dict[str, np.ndarray]
    """The same by branch."""
    validation: Scores
    seconds: float
    """Of training."""
    n_parameters: int
    """Numbers in the model's file besides the standardiser."""
    history: tuple[Epoch, ...]
    """Empty for a model that is not learnt by epochs."""
    trained: Trained | None
    """Where the trial asked for it."""


def run(trial: Trial) -> Outcome:
    """Train on training rows, choose on validation rows, decide test rows.

    Raises:
        ModelError: as `model.trained.fit`.
    """
    rows = trial.fold
    start = time.perf_counter()
    trained = fit(trial.method, rows.train, rows.validation, rows.venues, trial.settings, trial.seed)
    seconds = time.perf_counter() - start
    found = trained.predict(rows.test.modalities, rows.test.observed)
    return Outcome(
        method=trial.method,
        seed=trial.seed,
        label=rows.test.label,
        probability=found.probability,
        per_modality=found.per_modality,
        validation=validated(trained, rows),
        seconds=seconds,
        n_parameters=sum(value.numel() for value in trained.network.state_dict().values()),
        history=trained.history,
        trained=trained if trial.keep else None,
    )


def validated(trained: Trained, rows: Fold) -> Scores:
    """How good a model is on the validation rows."""
    predicted = trained.predict(rows.validation.modalities, rows.validation.observed).probability.argmax(axis=1)
    micro, macro = f1(rows.validation.label, predicted)
    return Scores(micro, macro, float(np.bincount(predicted).max() / len(predicted)))


def score(trial: Trial) -> float | None:
    """Validation macro-F1 of a trial; None where its training diverges. Test rows are not looked at."""
    rows = trial.fold
    try:
        trained = fit(trial.method, rows.train, rows.validation, rows.venues, trial.settings, trial.seed)
    except ModelError as error:
        if "loss is" not in str(error):
            raise
        return None
    return validated(trained, rows).macro_f1


def side_by_side(
    stage: str, work: Callable[[T], R], items: Sequence[T], jobs: int, progress: Progress, name: Callable[[T], str]
) -> list[R]:
    """Results in the order of the items, `jobs` at a time: each then has a process and one thread of its own.

    Raises:
        WorkerError: one of the processes was killed.
    """
    progress(stage, 0, len(items), "")
    if jobs == 1:
        return list(_told(map(work, items), items, stage, progress, name))
    with parallel_config(backend="loky", inner_max_num_threads=1):
        results = Parallel(n_jobs=jobs, return_as="generator")(delayed(_single_threaded)(work, item) for item in items)
        try:
            return list(_told(results, items, stage, progress, name))
        except TerminatedWorkerError as error:
            raise WorkerError(
                f"{stage}: one of {jobs} processes was killed, most likely for want of memory. "
                "Run again, with --jobs 1 if it happens again."
            ) from error


def _single_threaded(work: Callable[[T], R], item: T) -> R:
    torch.set_num_threads(1)
    return work(item)


def _told(
    results: Iterable[R], items: Sequence[T], stage: str, progress: Progress, name: Callable[[T], str]
) -> Iterable[R]:
    for done, (result, item) in enumerate(zip(results, items, strict=True), start=1):
        progress(stage, done, len(items), name(item))
        yield result


def default_jobs(n_bytes: int) -> int:
    """How many trials at a time: one per core, but one where there is a GPU or the features are large."""
    if torch.cuda.is_available() or n_bytes > MAX_SHARED_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
