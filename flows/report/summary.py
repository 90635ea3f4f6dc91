"""Figures derived from the metrics: majority baseline, confidence intervals and most confused venues."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmcl.pipeline.storage.run_files import Metrics, SplitScores

TOP = 5


@dataclass(frozen=True)
class Confused:
    """A pair of venues; the first is often mistaken for the second."""

    venue: str
    taken_for: str
    n_videos: int
    share: float
    """Share of the test videos of `venue`."""


def chance(confusion: np.ndarray | None) -> SplitScores:
    """Return the scores of always predicting the most frequent classes; undefined without a matrix (K, K)."""
    if confusion is None or not confusion.sum():
        return SplitScores(0)
    support = np.sort(confusion.sum(axis=1))[::-1]
    n_rows = int(support.sum())
    share = float(support[0] / n_rows)
    n_seen = int((support > 0).sum())
    return SplitScores(
        n_rows=n_rows,
        micro_f1=share,
        macro_f1=2 * share / (1 + share) / n_seen,
        top5=float(support[:TOP].sum() / n_rows),
        auc_micro=0.5,
        auc_macro=0.5,
    )


def interval(share: float | None, n: int) -> tuple[float, float] | None:
    """Return Wilson's 95 % interval of a share counted on n videos."""
    if share is None or n < 1:
        return None
    z = 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def most_confused(confusion: np.ndarray | None, venues: tuple[str, ...], n: int) -> list[Confused]:
    """Return the n largest off-diagonal entries of (K, K), largest first."""
    if confusion is None:
        return []
    off = np.array(confusion)
    support = off.sum(axis=1)
    np.fill_diagonal(off, 0)
    largest = np.argsort(-off, axis=None, kind="stable")[:n]
    rows, columns = np.unravel_index(largest, off.shape)
    return [
        Confused(venues[i], venues[j], int(off[i, j]), float(off[i, j] / support[i]))
        for i, j in zip(rows, columns, strict=True)
        if off[i, j] > 0
    ]


def compared(metrics: Metrics) -> dict[str, SplitScores]:
    """Return the scores of the model on all modalities, then on each alone, by name."""
    return {"All modalities fused": metrics.test} | {f"{m} alone": scores for m, scores in metrics.modalities.items()}


def gates(diagnostics: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Return shares of `open`, `undecided` and `shut` gates by modality, as host and as guest; empty without gates."""
    return {
        f"{modality}, {side}": found[side]
        for modality, found in diagnostics.get("gates", {}).items()
        for side in ("host", "guest")
        if side in found
    }


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and JSON value of each setting."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False, default=str)
