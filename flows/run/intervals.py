"""Confidence intervals of a run's test scores, from its stored predictions. Imports no SciPy, which takes a second."""

from collections.abc import Callable, Sequence
from math import lgamma

import numpy as np

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage.runs import PREDICTIONS, Run
from nmcl.pipeline.storage.tables import read_table

N_RESAMPLES = 1000
Interval = tuple[float, float]


def score_intervals(run: Run) -> dict[str, Interval]:
    """Return the 95 % intervals of `micro_f1` and `macro_f1` on the test videos.

    That of micro-F1, a share of videos, is exact (Clopper and Pearson); that of macro-F1 is a bootstrap, and is left
    out if all resamples have one score. Empty if the predictions of the test videos are not stored, or are damaged.
    """
    metrics = run.metrics
    pairs = _test_pairs(run) if metrics else []
    if not metrics or len(pairs) != metrics.test.n_rows or not pairs:
        return {}
    names = sorted({name for pair in pairs for name in pair})
    index = {name: i for i, name in enumerate(names)}
    label, predicted = np.array([(index[true], index[guess]) for true, guess in pairs]).T
    found = {"micro_f1": exact(int((label == predicted).sum()), len(label))}
    low, high = bootstrap(label, predicted, len(names))
    return found | ({"macro_f1": (low, high)} if low < high else {})


def _test_pairs(run: Run) -> list[tuple[str, str]]:
    """Return label and prediction of each test video."""
    try:
        if not run.store.exists(run.file(PREDICTIONS)):
            return []
        table = read_table(run.store, run.file(PREDICTIONS))
        if {"venue", "split"} <= set(table.column_names):
            rows = table.select(["venue", "split", "venue_1"]).to_pylist()
            found = [(row["venue"], row["split"], row["venue_1"]) for row in rows]
        else:  # an earlier version: the catalogue has the labels, in the same order
            found = _earlier_rows(run, table.select(["video_id", "venue_1"]).to_pylist())
    except StoreError:
        return []
    return [(true, guess) for true, split, guess in found if split == "test" and true and guess]


def _earlier_rows(run: Run, rows: Sequence[dict[str, str]]) -> list[tuple[str | None, str | None, str | None]]:
    videos, splits = run.catalogue.videos(run.store), run.splits or {}
    if [video.video_id for video in videos] != [row["video_id"] for row in rows]:
        return []
    return [(v.venue, splits.get(v.sha256), row["venue_1"]) for v, row in zip(videos, rows, strict=True)]


def bootstrap(
    label: np.ndarray, predicted: np.ndarray, n_classes: int, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Interval:
    """Return the 2.5 and 97.5 % quantiles of macro-F1 over resampled rows.

    The macro average is over the classes that occur as a label or a prediction, as in `nmcl.model.evaluate`.

    Args:
        label: Class indices, shape (N,), int, N >= 1.
        predicted: Class indices, shape (N,), int.
        n_classes: K.
    """
    n = len(label)
    pairs, counts = np.unique(label * n_classes + predicted, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=n_resamples).astype(np.float64)
    columns = np.zeros((3, len(pairs), n_classes))
    rows, true, found = np.arange(len(pairs)), pairs // n_classes, pairs % n_classes
    columns[0, rows, true] = true == found
    columns[1, rows, true] = 1
    columns[2, rows, found] = 1
    n_right, n_true, n_found = (drawn @ of_classes for of_classes in columns)
    occurring = n_true + n_found > 0
    f1 = np.divide(2 * n_right, n_true + n_found, out=np.zeros_like(n_right), where=occurring)
    low, high = np.quantile(f1.sum(axis=1) / occurring.sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def exact(k: int, n: int) -> Interval:
    """Return the 95 % interval of Clopper and Pearson of a share that k of n trials estimate."""
    i = np.arange(n + 1)
    log_choices = np.array([lgamma(n + 1) - lgamma(j + 1) - lgamma(n - j + 1) for j in range(n + 1)])

    def tail(p: float, rows: slice) -> float:
        return float(np.exp(log_choices + i * np.log(p) + (n - i) * np.log1p(-p))[rows].sum())

    low = 0.0 if k == 0 else _solved(lambda p: tail(p, slice(k, None)) - 0.025)
    high = 1.0 if k == n else _solved(lambda p: 0.025 - tail(p, slice(None, k + 1)))
    return low, high


def _solved(increasing: Callable[[float], float]) -> float:
    """Return where an increasing function of a share is 0."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if increasing(middle) > 0 else (middle, high)
    return (low + high) / 2
