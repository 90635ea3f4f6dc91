"""What is exported: the one record that every writer of a format gets."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.libraries import Versions
from nmcl.pipeline.records import SPLITS, Modality, Split, Steps

Missing = Literal["completed", "zero", "nan"]
"""What stands where a feature set has no vector: the completed one, zeros, or NaN (null in tables)."""
UNASSIGNED = "unassigned"
"""Name of the rows without a split, where a format sorts rows by split."""
GROUPS: tuple[Split | None, ...] = (*SPLITS, None)


Block = TypeVar("Block", covariant=True)


class Blocks(Protocol[Block]):
    """Protocol of functions that read a feature set block by block."""

    def __call__(self, numbers: Iterable[int] | None = None) -> Iterator[Block]:
        """Start an iteration over blocks, in order of the rows.

        Args:
            numbers: Numbers of the blocks to read; None: all.
        """


@dataclass(frozen=True)
class FeatureSet:
    """One matrix of N rows, read in blocks: all of it may not fit into memory."""

    name: str
    modality: Modality
    dim: int
    """Length of a vector, D."""
    observed: np.ndarray
    """Shape (N,), bool; False where the vector is absent, whatever is written in its place."""
    blocks: Blocks[np.ndarray]
    """Reads vectors: shape (n, D), float32; NaN rows only with `nan`."""
    sequences: Blocks[Sequence[Steps | None]] | None = None
    """Reads the sequences that the vectors were pooled from; None: they were not kept or not requested."""
    lengths: np.ndarray | None = None
    """T of each row, shape (N,), int64; 1 without a sequence. None: 1 everywhere."""
    made_by: Mapping[str, Any] = field(default_factory=dict)
    """Recipes of the artifacts that the values come from, as JSON."""
    made_with: Versions = field(default_factory=dict)
    """Versions of the libraries that the vectors were fitted, extracted and, where they are, completed with."""
    parts_without_versions: int = 0
    """Number of parts that do not name them: an earlier version of nmcl extracted these."""
    dimensions: Sequence[str] = ()
    """Names of the D numbers of a vector; empty if they have none."""

    @property
    def columns(self) -> list[str]:
        """Name of each number of a vector among those of other feature sets."""
        return [f"{self.name}_{name}" for name in self.dimensions or range(self.dim)]

    @property
    def longest(self) -> int:
        """The largest T."""
        return 1 if self.lengths is None else int(self.lengths.max(initial=1))

    def steps(self) -> Iterator[list[np.ndarray]]:
        """Yield the sequences of each block, (T, D) each; where there is none, the vector as the only step."""
        if self.sequences is None:
            for block in self.blocks():
                yield list(block[:, None])
            return
        for block, sequences in zip(self.blocks(), self.sequences(), strict=True):
            yield [vector[None] if s is None else s.vectors for vector, s in zip(block, sequences, strict=True)]


@dataclass(frozen=True)
class Export:
    """N videos and their feature sets. All sequences are in the order of the catalogue."""

    ids: Sequence[str]
    """Unique: an id that several crawls use is preceded by the crawl."""
    crawls: Sequence[str]
    paths: Sequence[str]
    sha256: Sequence[str]
    descriptions: Sequence[str | None]
    labels: Sequence[str | None]
    splits: Sequence[Split | None]
    features: Sequence[FeatureSet]
    missing: Missing = "zero"
    split_source: str = "none"
    """Where the splits come from."""
    notes: Sequence[str] = ()
    """What the user must know about these values."""
    block_sizes: Sequence[int] = ()
    """Number of rows of each block; all feature sets have the same blocks."""

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def classes(self) -> list[str]:
        """All labels, sorted."""
        return sorted({label for label in self.labels if label is not None})

    @cached_property
    def class_indices(self) -> np.ndarray:
        """Index of each label among the classes, -1 without a label: shape (N,), int64."""
        index = {label: k for k, label in enumerate(self.classes)}
        return np.array([-1 if label is None else index[label] for label in self.labels], np.int64)

    def in_split(self, split: Split | None) -> np.ndarray:
        """Return which rows are in a split: shape (N,), bool; None: in none."""
        return np.array([s == split for s in self.splits], bool)

    def first_of(self, modality: Modality) -> FeatureSet | None:
        """Return the first feature set of a modality, for formats that name files by modality."""
        return next((feature for feature in self.features if feature.modality == modality), None)

    def by_modality(self, names: Mapping[Modality, str]) -> dict[str, FeatureSet]:
        """Return the first feature set of each modality by the consumer's name for it.

        Raises:
            UserError: If there is no feature set of any of them.
        """
        found = {name: feature for m, name in names.items() if (feature := self.first_of(m)) is not None}
        if not found:
            raise UserError(f"Found no feature set of the modalities {', '.join(names)}. Name others by --features.")
        return found


@dataclass(frozen=True)
class Written:
    """What a writer made."""

    contents: Mapping[str, str]
    """File, array or columns -> feature set whose values are in it."""
    notes: tuple[str, ...] = ()
    """What the user must know about the files."""


def left_out(export: Export, written: Mapping[str, FeatureSet]) -> tuple[str, ...]:
    """Return a note that names the feature sets without a place in a format that has one file per modality."""
    kept = {feature.name for feature in written.values()}
    others = [feature.name for feature in export.features if feature.name not in kept]
    chosen = ", ".join(f"{name}: {feature.name}" for name, feature in written.items())
    return (f"One set per modality ({chosen}); left out: {', '.join(others)}.",) if others else ()
