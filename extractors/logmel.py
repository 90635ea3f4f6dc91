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

from nmcl.extractors.spectrogram import POWER_FLOOR, frame_times_s, mel_bands, power_spectrogram
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.extractor import Extracted
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
    sequence: Annotated[bool, Unhashed()] = False
    """Whether what is averaged is stored too, 43 frames a second, besides the vector."""


class LogMelExtractor:
    """Extractor whose vector is the mean of each band's level over time in dB, then its standard deviation."""

    modality: Modality = "acoustic"
    need = Sound()
    fit_videos = 0
    libraries = ("librosa", "scipy")

    def __init__(self, settings: LogMelSettings) -> None:
        self.settings = settings
        self.dim = 2 * settings.bands

    def address(self) -> dict[str, object]:
        return {"name": "logmel", "settings": hashed(self.settings), "code_version": CODE_VERSION}

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: nothing is fitted."""
        return State()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """Return vectors (len(clips), 2 bands), float32, in dB; NaN without sound.

        A step of a sequence is a frame: its levels, then their squared deviations from the mean, divided by the
        standard deviation. So the vector is the mean of its sequence.
        """
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        sequences: list[np.ndarray | None] = [None] * len(clips)
        for i, clip in enumerate(clips):
            if clip.waveform is not None:
                power = power_spectrogram(clip.waveform) @ self._bands.T
                levels = 10 * np.log10(np.maximum(power, POWER_FLOOR))
                mean, deviation = levels.mean(axis=0), levels.std(axis=0)
                vectors[i] = np.concatenate([mean, deviation])
                if self.settings.sequence:
                    shares = np.square(levels - mean) / np.where(deviation > 0, deviation, 1)
                    sequences[i] = np.concatenate([levels, shares], axis=1, dtype=np.float32)
        if not self.settings.sequence:
            return vectors
        return Extracted(vectors, sequences, [() if s is None else frame_times_s(len(s)) for s in sequences])

    @cached_property
    def _bands(self) -> np.ndarray:
        return mel_bands(self.settings.bands)
