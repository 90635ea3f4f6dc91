"""Log-mel statistics: mean and deviation of a clip's log-mel spectrogram. Nothing is fitted.

A strong and fast baseline for sound. The spectrogram is that of `extractors.spectrogram`; the bands are Slaney's, as in
librosa.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from annotated_types import Interval

from nmcl.extractors.spectrogram import POWER_FLOOR, mel_bands, power_spectrogram
from nmcl.pipeline.addressing import Reference, hashed
from nmcl.pipeline.needs import Sound
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same sound gives a different vector."""


@dataclass(frozen=True)
class LogMelSettings:
    """Frozen settings of log-mel statistics."""

    bands: Annotated[int, Interval(ge=8, le=128), Reference(64)] = 64
    """Mel bands from 0 to 11,025 Hz."""


class LogMelExtractor:
    """Extractor whose vector is the mean of each band's level over time in dB, then its standard deviation."""

    modality: Modality = "acoustic"
    need = Sound()
    fit_videos = 0

    def __init__(self, settings: LogMelSettings) -> None:
        self.settings = settings
        self.dim = 2 * settings.bands

    def address(self) -> dict[str, object]:
        return {"name": "logmel", "settings": hashed(self.settings), "code_version": CODE_VERSION}

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: nothing is fitted."""
        return State()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        """Return vectors (len(clips), 2 bands), float32, in dB; NaN without sound."""
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        for vector, clip in zip(vectors, clips, strict=True):
            if clip.waveform is not None:
                power = power_spectrogram(clip.waveform) @ self._bands.T
                levels = 10 * np.log10(np.maximum(power, POWER_FLOOR))
                vector[:] = np.concatenate([levels.mean(axis=0), levels.std(axis=0)])
        return vectors

    @cached_property
    def _bands(self) -> np.ndarray:
        return mel_bands(self.settings.bands)
