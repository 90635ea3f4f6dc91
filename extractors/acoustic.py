"""Acoustic features: spectrogram, stacked denoising autoencoder, mean over frames (paper, section 4.2.2).

Levels are not normalised: a street is loud and a wood is quiet, and removing the level of each clip cost accuracy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated

import numpy as np
from annotated_types import Ge

from nmcl.extractors.autoencoder import CODE_VERSION as AUTOENCODER_VERSION
from nmcl.extractors.autoencoder import Autoencoder, AutoencoderSettings, train_autoencoder
from nmcl.extractors.spectrogram import N_BINS, frame_times_s, log_spectrogram
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import Sound
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State
from nmcl.pipeline.storage.state_checks import checking_state

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same settings give different vectors."""

HELD_OUT_EVERY = 10
"""One clip in this many is held out from training to measure the reconstruction error."""
FIRST_HELD_OUT = 4
"""Offset of the first held-out clip, so that the first four clips are always used for training."""


@dataclass(frozen=True)
class AcousticSettings:
    """Frozen settings of the acoustic training set and its autoencoder."""

    fit_videos: Annotated[int, Ge(1), Reference(2000)] = 2000
    """Maximum number of training videos; more add little to an autoencoder of 1.3 million weights."""
    frames_per_video: Annotated[int, Ge(1), Reference(100)] = 100
    """Frames sampled at random per video; half of a 5 s clip, since neighbouring frames overlap by half."""
    max_frames: Annotated[int, Ge(1), Reference(60_000)] = 60_000
    """Frames kept in memory for training, sampled over all videos: 123 MB, and under a minute on two cores."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of the frame sampling."""
    sequence: Annotated[bool, Unhashed()] = False
    """Whether the code of each frame of the spectrogram is stored too, 43 a second, besides their mean. It has its
    own address; the mean is the same."""
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)


class AcousticExtractor:
    """Extractor whose vector is the mean code of a clip's spectrogram frames."""

    modality: Modality = "acoustic"
    need = Sound()
    libraries = ("librosa", "scipy", "torch")

    def __init__(self, settings: AcousticSettings) -> None:
        self.settings = settings
        self.dim = settings.autoencoder.layers[-1]
        self.fit_videos = settings.fit_videos

    def address(self) -> dict[str, object]:
        return {
            "settings": hashed(self.settings),
            "code_version": CODE_VERSION,
            "autoencoder_version": AUTOENCODER_VERSION,
        }

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Train the autoencoder on at most `fit_videos` clips, read once and one at a time.

        The state's info holds the training curve, the numbers of frames, and `held_out_relative_error`: squared
        reconstruction error on held-out clips over that of the mean frame (null with fewer than five clips).
        """
        rng = np.random.default_rng(self.settings.seed)
        training = _Reservoir(self.settings.max_frames, rng)
        held_out = _Reservoir(max(1, self.settings.max_frames // HELD_OUT_EVERY), rng)
        n_sounds = 0
        for clip in islice(clips, self.fit_videos):
            if clip.waveform is None:
                continue
            is_held_out = n_sounds % HELD_OUT_EVERY == FIRST_HELD_OUT
            (held_out if is_held_out else training).add(self._some_frames(clip.waveform, rng))
            n_sounds += 1
        if not n_sounds:
            return State()
        frames, unseen = training.frames(), held_out.frames()
        autoencoder, curves = train_autoencoder(frames, self.settings.autoencoder, progress)
        return autoencoder.to_state(
            {
                "training_curve": curves,
                "n_frames": len(frames),
                "n_held_out_frames": len(unseen),
                "held_out_relative_error": autoencoder.relative_error(unseen),
            }
        )

    def _some_frames(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frames = log_spectrogram(waveform)
        n_taken = min(len(frames), self.settings.frames_per_video)
        return frames[rng.choice(len(frames), n_taken, replace=False)]

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """Return vectors (len(clips), dim), float32, 0..1; NaN without sound, and everywhere if the state is empty."""
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        sequences: list[np.ndarray | None] = [None] * len(clips)
        autoencoder = self._autoencoder(state) if state.arrays else None
        for i, clip in enumerate(clips):
            if autoencoder and clip.waveform is not None:
                # One clip at a time: the last bit of a frame's result may depend on its position in a matrix product.
                codes = autoencoder.encode(log_spectrogram(clip.waveform))
                vectors[i] = codes.mean(axis=0)
                sequences[i] = codes if self.settings.sequence else None
        if not self.settings.sequence:
            return vectors
        return Extracted(
            vectors, sequences, [() if codes is None else frame_times_s(len(codes)) for codes in sequences]
        )

    def _autoencoder(self, state: State) -> Autoencoder:
        autoencoder = Autoencoder.from_state(state)
        with checking_state("acoustic"):
            widths = len(autoencoder.mean), len(autoencoder.encoder[-1][1])
            if widths != (N_BINS, self.dim):
                raise ValueError(f"an autoencoder from {widths[0]} to {widths[1]} numbers, not {N_BINS} to {self.dim}")
        return autoencoder


class _Reservoir:
    """Bounded uniform sample of a stream of frames: Vitter, ACM TOMS 1985, algorithm R."""

    def __init__(self, capacity: int, rng: np.random.Generator) -> None:
        self._kept: list[np.ndarray] = []
        self._capacity = capacity
        self._n_seen = 0
        self._rng = rng

    def add(self, frames: np.ndarray) -> None:
        """Offer frames of shape (n, N_BINS), float32, to the sample."""
        for frame in frames:
            self._n_seen += 1
            if len(self._kept) < self._capacity:
                self._kept.append(frame.copy())
            elif (place := int(self._rng.integers(self._n_seen))) < self._capacity:
                self._kept[place] = frame.copy()

    def frames(self) -> np.ndarray:
        """Return the sampled frames, shape (n, N_BINS), float32."""
        return np.stack(self._kept) if self._kept else np.empty((0, N_BINS), dtype=np.float32)
