"""Confidence intervals of a run's test scores, from its stored predictions."""

from collections.abc import Sequence

import numpy as np

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage.runs import PREDICTIONS, Run
from nmcl.pipeline.storage.tables import read_table

N_RESAMPLES = 1000
Interval = tuple[float, float]


def score_intervals(run: Run) -> dict[str, Interval]:
    """Return the 95 % intervals of `micro_f1` and `macro_f1` on the test videos, by bootstrap.

    Empty if the predictions of the test videos are not stored, or are damaged.
    """
    metrics = run.metrics
    pairs = _test_pairs(run) if metrics else []
    if not metrics or len(pairs) != metrics.test.n_rows or not pairs:
        return {}
    names = sorted({name for pair in pairs for name in pair})
    index = {name: i for i, name in enumerate(names)}
    label, predicted = np.array([(index[true], index[guess]) for true, guess in pairs]).T
    return bootstrap(label, predicted, len(names))


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
) -> dict[str, Interval]:
    """Return the 2.5 and 97.5 % quantiles of micro- and macro-F1 over resampled rows.

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
    scores = {"micro_f1": n_right.sum(axis=1) / n, "macro_f1": f1.sum(axis=1) / occurring.sum(axis=1)}
    return {name: _interval(values) for name, values in scores.items()}


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
