"""Extractor protocol: settings and two pure functions, without access to paths, stores or engines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from nmcl.pipeline.needs import Frames, Need
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, FoundText, Modality, State

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Extracted:
    """Vectors of a batch of clips, with the sequences or the sparse term weights they were made from."""

    vectors: np.ndarray
    """Shape (N, D), float32; all NaN for an absent modality."""
    sequences: Sequence[np.ndarray | None] | None = None
    """For each clip what was pooled, shape (T, D), float32, T >= 1; None for an absent modality."""
    times_s: Sequence[Sequence[float]] = ()
    """For each clip the T times of its sequence, in seconds from the beginning of the clip."""
    terms: "csr_array | None" = None
    """Sparse term weights, shape (N, number of terms), float32, with sorted columns; empty rows where absent."""


def vectors_of(extracted: np.ndarray | Extracted) -> np.ndarray:
    """Return the vectors alone, whatever an extractor returned."""
    return extracted.vectors if isinstance(extracted, Extracted) else extracted


class Extractor(Protocol):
    """Protocol of extractors, which compute one modality's vector of a video."""

    modality: Modality
    fit_videos: int
    """Maximum number of videos used by `fit`; 0 for an extractor without training."""

    @property
    def dim(self) -> int:
        """Length of the vector."""

    @property
    def need(self) -> Need:
        """What it reads of a video: `Frames`, `Sound` or `Text`. Its clips hold that and nothing else."""

    def address(self) -> dict[str, object]:
        """Return everything that decides the vectors besides the clips and the state, as JSON values.

        That is the settings (see `pipeline.addressing.hashed`), code version and checksum of the weights. Two
        extractors with equal addresses give equal vectors.
        """

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Fit to training videos, deterministically. Absent fields are skipped; no usable clip gives an empty state."""

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """Return the vectors of a batch of clips, shape (len(clips), dim), float32; all NaN for an absent modality.

        A vector does not depend on the other clips of its batch. `Extracted` also stores the sequences.
        """


class TextReader(Protocol):
    """Protocol of readers of the text on screen, which textual extractors then embed."""

    @property
    def need(self) -> Frames:
        """The frames that it reads."""

    def address(self) -> dict[str, object]:
        """Return everything that decides the texts besides the frames, as JSON values. See `Extractor.address`."""

    def read(self, clip: Clip) -> FoundText:
        """Return the text of a clip that has frames, with its lines, none of them twice."""


@runtime_checkable
class HasWeights(Protocol):
    """Protocol of extractors with published weights."""

    def fetch(self) -> None:
        """Make sure that the weights are on this machine; raise WeightsError."""


@runtime_checkable
class Checks(Protocol):
    """Protocol of extractors whose settings name devices or files."""

    def check(self) -> None:
        """Raise UserError if a device or a file of the settings cannot be used."""
