"""What an extractor is: its settings and two pure functions. It sees no path, store or engine."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, Need, State


class Extractor(Protocol):
    """Makes one modality's vector of a video."""

    modality: Modality
    dim: int
    """Length of the vector."""
    need: Need
    """The one field of `Clip` that it reads; the others may be None."""
    fit_videos: int
    """How many videos `fit` wants at most; 0 for an extractor that learns nothing."""

    def address(self) -> dict[str, object]:
        """All that decides the vectors besides the clips and the state: settings (see `pipeline.addressing.hashed`),
        code version, checksum of the weights.

        JSON values only. Two extractors with equal addresses give equal vectors.
        """

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Learn from training videos. Deterministic. Absent fields are skipped; no usable clip gives an empty state."""

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        """Vectors of a batch of clips, shape (len(clips), dim), float32. A row is all NaN where the modality is absent.

        A vector does not depend on the other clips of its batch.
        """
