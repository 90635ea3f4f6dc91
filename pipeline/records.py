"""Records passed between stages. Frozen: no stage adds fields to another's record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.needs import Frames, Need, Sound, Stream, Text

Modality = Literal["visual", "acoustic", "textual"]
MODALITIES: tuple[Modality, ...] = ("visual", "acoustic", "textual")
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Entry:
    """Video as listed by a crawl, before its bytes are read."""

    video_id: str
    """Id from the manifest, else the file's stem; unique within its crawl."""
    path: str
    """Path relative to the crawl folder, with forward slashes."""
    description: str | None = None
    venue: str | None = None
    split: Split | None = None
    """The manifest's own split, if it has one."""


@dataclass(frozen=True)
class Video:
    """Catalogue row: an entry whose bytes are known."""

    video_id: str
    crawl: str
    path: str
    sha256: str
    """SHA-256 of the content, 64 hex digits; empty if the file could not be read."""
    n_bytes: int
    description: str | None
    venue: str | None
    split: Split | None
    duplicate_of: str | None
    """`video_id` of the first video of the crawl with the same bytes."""


class Line(NamedTuple):
    """Line of a text that is shown or spoken at some time."""

    time_s: float
    """When it begins, in seconds from the beginning of the video."""
    text: str


@dataclass(frozen=True)
class FoundText:
    """Text of one video from one source."""

    text: str | None = None
    """None if there is none."""
    lines: tuple[Line, ...] | None = None
    """Its lines with their times; None if the source has none, or could not be read."""
    file: str | None = None
    """File that it was read from, relative to the crawl; None for manifests, sidecars and pictures."""
    remark: str | None = None
    """Why there is no text although there should be."""


@dataclass(frozen=True)
class Clip:
    """Video as one extractor sees it: what it needs and nothing else. Everything is None if that is absent."""

    frames: np.ndarray | None = None
    """Key frames in order of time, shape (n_frames, height, width, 3), uint8, RGB, 0..255; n_frames >= 1."""
    frame_times_s: tuple[float, ...] = ()
    """Time of each key frame in seconds from the beginning of the clip."""
    waveform: np.ndarray | None = None
    """Sound, shape (n_samples,), int16, mono, at the rate of the need; n_samples >= 1."""
    text: str | None = None


@dataclass(frozen=True)
class Pictures:
    """Frames of one video, selected and preprocessed."""

    frames: np.ndarray
    """See `Clip.frames`."""
    times_s: tuple[float, ...]


@dataclass(frozen=True)
class Content:
    """What was requested of one video, each need once, however many extractors share it."""

    pictures: Mapping[Frames, Pictures] = field(default_factory=dict)
    sounds: Mapping[Sound, np.ndarray] = field(default_factory=dict)
    """See `Clip.waveform`."""
    texts: Mapping[Text, str | None] = field(default_factory=dict)
    problems: Mapping[Stream, ClipError] = field(default_factory=dict)
    """Reason for each requested stream of the file that is absent."""

    def clip(self, need: Need) -> Clip:
        """Return the video as an extractor with this need sees it."""
        if isinstance(need, Text):
            return Clip(text=self.texts.get(need))
        if isinstance(need, Sound):
            return Clip(waveform=self.sounds.get(need))
        found = self.pictures.get(need)
        return Clip(frames=found.frames, frame_times_s=found.times_s) if found else Clip()


class Steps(NamedTuple):
    """Sequence that a vector was pooled from: key frames, sound frames or seconds of one video."""

    vectors: np.ndarray
    """Shape (T, D), float32, T >= 1."""
    times_s: np.ndarray
    """Shape (T,), float32, in seconds from the beginning of the video."""


@dataclass(frozen=True)
class State:
    """Fitted state of an extractor or a completer: named arrays and JSON, so that loading it runs no code."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    """JSON values only."""
