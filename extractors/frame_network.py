"""Base of extractors whose vector is the mean of a network's features over the key frames."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.network import Run
from nmcl.extractors.preprocess import Preprocess
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import Frames
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State


class FrameSettings(Protocol):
    """Protocol of the settings that such extractors share."""

    @property
    def key_frames(self) -> int:
        """Maximum number of key frames per video."""

    @property
    def sequence(self) -> bool:
        """Whether the vector of each key frame is stored too, besides their mean."""

    @property
    def device(self) -> str:
        """`auto`, or a torch device name."""


class FrameNetwork(ABC):
    """Mean of a network's features over the key frames (paper, section 4.2.1)."""

    modality: Modality = "visual"
    fit_videos = 0
    settings: FrameSettings

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of the vector; loads no weights."""

    @property
    @abstractmethod
    def preprocess(self) -> Preprocess:
        """The preprocessing that the network was trained with; loads no weights."""

    @abstractmethod
    def load(self) -> Run:
        """Return the network, ready for inference on `self.device`."""

    @property
    def need(self) -> Frames:
        """The key frames of the settings, as the network takes them."""
        return Frames(KeyFrames(self.settings.key_frames), self.preprocess)

    @property
    def device(self) -> str:
        """Device of the network, as torch names it."""
        return chosen_device(self.settings.device)

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: the network is pretrained."""
        return State()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """See `Extractor.extract`; shape (len(clips), dim), float32, >= 0 for a ResNet."""
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        sequences: list[np.ndarray | None] = [None] * len(clips)
        frames = {i: clip.frames for i, clip in enumerate(clips) if clip.frames is not None}
        if frames:
            features = self._run(np.concatenate([*frames.values()]))
            ends = np.cumsum([len(f) for f in frames.values()])
            for i, rows in zip(frames, np.split(features, ends[:-1]), strict=True):
                vectors[i], sequences[i] = rows.mean(axis=0), rows
        if not self.settings.sequence:
            return vectors
        return Extracted(vectors, sequences, [clip.frame_times_s for clip in clips])

    @cached_property
    def _run(self) -> Run:
        return self.load()


def chosen_device(name: str) -> str:
    """Return the torch device that a setting names; `auto` is a GPU if there is one."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
