"""Data of the page of one run, which `nmcl run` and `nmcl report` write. It holds neither a store nor a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nmcl.pipeline.storage.run_files import Metrics

if TYPE_CHECKING:
    from nmcl.model.base import Epoch  # imports torch


@dataclass(frozen=True)
class Vote:
    """What one feature set alone predicts of a video."""

    venue: str | None
    probability: float | None
    """Both None if the video lacks the set."""
    observed: bool | None
    """Whether its vector was extracted; False: filled in; None: unknown."""


@dataclass(frozen=True)
class Shares:
    """How one video's features are divided with one modality as host of an NMCL."""

    consistent: float
    complementary: float
    """Mean weight of the host's features as consistent, and as complementary, each in 0..1."""
    scores: tuple[float, ...]
    """Relation scores against all guests, 0..1, of the features that vary most."""


@dataclass(frozen=True)
class ShownVideo:
    """A video with its predictions."""

    video_id: str
    path: str | None
    """Relative to its crawl; None if the page names no files."""
    description: str | None
    venue: str | None
    """Its label; None without one."""
    top: tuple[tuple[str, float], ...]
    """Up to five pairs of venue and probability, most probable first; none if nothing could be extracted."""
    status: str
    reason: str | None
    votes: Mapping[str, Vote]
    """By feature set."""
    shares: Mapping[str, Shares] = field(default_factory=dict)
    """By modality of an NMCL."""
    images: tuple[bytes, ...] = ()
    """JPEG files in order of time."""
    spectrogram: bytes | None = None
    """JPEG file."""

    @property
    def is_right(self) -> bool:
        """Whether the most probable venue is its own."""
        return bool(self.top) and self.top[0][0] == self.venue

    @property
    def confidence(self) -> float:
        """Probability of the predicted venue; 0 without a prediction."""
        return self.top[0][1] if self.top else 0.0


@dataclass(frozen=True)
class FailedVideo:
    """A video that could be used only in part, or not at all."""

    video_id: str
    path: str | None
    """None if the page names no files."""
    status: str
    reason: str | None


@dataclass(frozen=True)
class Difference:
    """Accuracy of the fused model minus that of the best feature set alone, on the same test videos."""

    name: str
    """The set that is best on validation videos."""
    n_rows: int
    """Test videos that it predicts."""
    fused: float
    alone: float
    interval: tuple[float, float]
    """95 % interval of the difference by paired bootstrap."""
    wins: int
    """Videos that only the fused model predicts correctly."""
    losses: int
    p_value: float | None
    """Of McNemar's exact test; None if both are right on the same videos."""


@dataclass(frozen=True)
class RunPage:
    """All data of one page."""

    title: str
    run: str
    created: str
    metrics: Metrics
    videos: Sequence[ShownVideo]
    """Test videos with a label, in the order of the catalogue."""
    accuracy_interval: tuple[float, float] | None
    macro_interval: tuple[float, float] | None
    """95 % bootstrap intervals."""
    alone: Mapping[str, tuple[int, int]]
    """By feature set: right predictions, and test videos that it predicts."""
    difference: Difference | None
    confusion: np.ndarray
    """Shape (K, K), int64: rows are labels, columns predictions."""
    made_with: Mapping[str, Any]
    """Version, commit, libraries, machine and command of the run; empty if an earlier version did not store them."""
    has_media: bool
    notes: tuple[str, ...] = ()
    """What the page lacks, and how to get it."""
    history: Sequence["Epoch"] = ()
    failures: Sequence[FailedVideo] = ()
    """May be only the first few."""
    champion: str | None = None
    """What the run is to the store's champion, as displayed."""
    is_sample: bool = False
    """Whether `nmcl sample` rendered videos of it."""
    has_retraining: bool = False
    """Whether a page about the comparison with the champion is, or will be, next to this one."""
