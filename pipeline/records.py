"""Records passed between stages. Frozen: no stage adds fields to another's record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nmcl.pipeline.errors import ClipError

Modality = Literal["visual", "acoustic", "textual"]
MODALITIES: tuple[Modality, ...] = ("visual", "acoustic", "textual")
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Need = Literal["frames", "waveform", "description"]
"""Clip field that an extractor needs; nothing else is decoded for it."""


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


@dataclass(frozen=True)
class Clip:
    """Decoded video: everything an extractor may use. Fields that were not requested or are absent are None."""

    frames: np.ndarray | None = None
    """Key frames in order of time, shape (n_frames, height, width, 3), uint8, RGB, 0..255; n_frames >= 1."""
    frame_times_s: tuple[float, ...] = ()
    """Time of each key frame in seconds from the beginning of the clip."""
    waveform: np.ndarray | None = None
    """Sound, shape (n_samples,), int16, mono, 22,050 Hz; n_samples >= 1."""
    problems: Mapping[Need, ClipError] = field(default_factory=dict)
    """Reason for each requested need ("frames", "waveform") that is absent."""
    description: str | None = None


@dataclass(frozen=True)
class State:
    """Fitted state of an extractor or a completer: named arrays and JSON, so that loading it runs no code."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    """JSON values only."""
