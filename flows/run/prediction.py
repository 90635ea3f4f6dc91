"""Predictions of a trained model for every video of a catalogue."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from nmcl.model.trained import Trained
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.records import Split, Video
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
        probability[usable] = trained.predict(chosen.modalities, chosen.observed, chosen.terms).probability
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
    videos: Sequence[Video],
    failures: Sequence[Sequence[Failure]],
    splits: Sequence[Split | None],
    probability: np.ndarray,
    classes: Sequence[str],
    alone: Mapping[str, np.ndarray] | None = None,
    all_classes: bool = False,
) -> pa.Table:
    """Return a table with one row per video.

    Its columns are `video_id, status, venue, split, venue_1..venue_5, probability_1..probability_5, reason`.
    `status` is `ok`, `partial` (some modality failed, the others decide) or `failed` (no modality could be extracted);
    `reason` names the failures. `failed` rows have no predicted venues. With fewer than five venues, the last columns
    are null. `venue` is the video's own label.

    Args:
        splits: The split of each video in the run that predicts.
        probability: Shape (N, K), float32, NaN rows without a prediction.
        classes: K names.
        alone: Probabilities by the feature set they are predicted from: the columns `venue_by_SET` and
            `probability_by_SET`, null where its row is NaN.
        all_classes: Whether to add the columns `probability_of_CLASS`.
    """
    known = ~np.isnan(probability).any(axis=1)
    columns: dict[str, pa.Array] = {
        "video_id": pa.array([video.video_id for video in videos], pa.string()),
        "status": pa.array([status(f, bool(k)) for f, k in zip(failures, known, strict=True)], pa.string()),
        "venue": pa.array([video.venue for video in videos], pa.string()),
        "split": pa.array(splits, pa.string()),
    }
    best = _ranked(probability, classes, TOP)
    columns |= {f"venue_{rank}": names for rank, (names, _) in enumerate(best, start=1)}
    columns |= {f"probability_{rank}": shares for rank, (_, shares) in enumerate(best, start=1)}
    columns["reason"] = pa.array([_reason(f, bool(k)) for f, k in zip(failures, known, strict=True)], pa.string())
    for name, own in (alone or {}).items():
        ((columns[f"venue_by_{name}"], columns[f"probability_by_{name}"]),) = _ranked(own, classes, 1)
    if all_classes:
        columns |= {
            f"probability_of_{name}": pa.array(probability[:, k], pa.float32(), mask=~known)
            for k, name in enumerate(classes)
        }
    return pa.table(columns)


def _ranked(probability: np.ndarray, classes: Sequence[str], n: int) -> list[tuple[pa.Array, pa.Array]]:
    """Return the n most probable classes and their probabilities, null in NaN rows and beyond K."""
    unknown = np.isnan(probability).any(axis=1)
    order = np.argsort(-probability, axis=1, kind="stable")[:, :n]
    names, shares = np.array(classes, dtype=object)[order], np.take_along_axis(probability, order, axis=1)
    found = [
        (pa.array(names[:, rank], pa.string(), mask=unknown), pa.array(shares[:, rank], pa.float32(), mask=unknown))
        for rank in range(order.shape[1])
    ]
    absent = pa.nulls(len(probability), pa.string()), pa.nulls(len(probability), pa.float32())
    return found + [absent] * (n - len(found))


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
