"""Predictions of a trained model for every video of a catalogue."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from nmcl.model.trained import Trained
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import Artifact
from nmcl.pipeline.storage.catalogue import Catalogue
from nmcl.pipeline.storage.failures import Failure, load_failures
from nmcl.pipeline.storage.store import Store

Status = Literal["ok", "partial", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
TOP = 5
"""Number of classes predicted for each video."""


def probabilities(trained: Trained, completed: FeatureRows) -> np.ndarray:
    """Return the class probabilities of N videos: shape (N, K), float32; NaN rows for videos without any modality."""
    usable = completed.usable
    probability = np.full((len(usable), len(trained.classes)), np.nan, dtype=np.float32)
    if usable.any():
        chosen = completed.take(usable)
        probability[usable] = trained.predict(chosen.modalities, chosen.observed).probability
    return probability


def failures_of(
    store: Store, artifact: Artifact, catalogue: Catalogue, videos: Sequence[Video]
) -> list[tuple[Failure, ...]]:
    """Return the failures of each video, in the order of the catalogue."""
    rows = iter(videos)
    found: list[tuple[Failure, ...]] = []
    for _, part in catalogue.parts():
        failures = load_failures(store, artifact, part)
        found += [failures.get(next(rows).video_id, ()) for _ in range(part.n_videos)]
    return found


def table(
    videos: Sequence[Video], failures: Sequence[Sequence[Failure]], probability: np.ndarray, classes: Sequence[str]
) -> pa.Table:
    """Return a table with one row per video.

    Its columns are `video_id, status, venue_1..venue_5, probability_1..probability_5, reason`.
    `status` is `ok`, `partial` (some modality failed, the others decide) or `failed` (no modality could be extracted);
    `reason` names the failures. `failed` rows have no venues. With fewer than five venues, the last columns are null.
    """
    known = ~np.isnan(probability).any(axis=1)
    order = np.argsort(-probability, axis=1, kind="stable")[:, :TOP]
    columns: dict[str, pa.Array] = {
        "video_id": pa.array([video.video_id for video in videos], pa.string()),
        "status": pa.array([status(f, bool(k)) for f, k in zip(failures, known, strict=True)], pa.string()),
    }
    names, shares = np.array(classes, dtype=object)[order], np.take_along_axis(probability, order, axis=1)
    for rank in range(TOP):
        there = known & (rank < len(classes))
        column = names[:, rank] if rank < len(classes) else np.full(len(videos), None)
        columns[f"venue_{rank + 1}"] = pa.array(column, pa.string(), mask=~there)
    for rank in range(TOP):
        there = known & (rank < len(classes))
        column = shares[:, rank] if rank < len(classes) else np.zeros(len(videos), np.float32)
        columns[f"probability_{rank + 1}"] = pa.array(column, pa.float32(), mask=~there)
    columns["reason"] = pa.array([_reason(f, bool(k)) for f, k in zip(failures, known, strict=True)], pa.string())
    return pa.table(columns)


def status(failures: Sequence[Failure], known: bool) -> Status:
    """Return the status of a video.

    Args:
        known: whether any modality of it was observed.
    """
    if not known:
        return "failed"
    return "partial" if failures else "ok"


def _reason(failures: Sequence[Failure], known: bool) -> str | None:
    if not failures:
        return None if known else "empty: no modality was found in it"
    return "; ".join(str(failure) for failure in failures)
