"""Feature rows of several modalities with their masks, and shared computations on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CONSTANT = 1e-6
"""Smallest standard deviation, relative to the mean where that is above 1: below it, a feature is only rounding noise.
"""


@dataclass(frozen=True)
class FeatureRows:
    """N rows (videos) of named modalities."""

    modalities: dict[str, np.ndarray]
    """Features by name, shape (N, D_m), float32. An unobserved row is all NaN until it is completed."""
    observed: dict[str, np.ndarray]
    """Masks by the same names, shape (N,), bool; False where the vector is absent or was completed."""
    terms: Mapping[str, "csr_array"] = field(default_factory=dict, kw_only=True)
    """Sparse term weights of the feature sets that have any, shape (N, T_m), float32; a row is empty where absent."""

    def __len__(self) -> int:
        """Return the number of rows, N."""
        return len(next(iter(self.modalities.values())))

    @property
    def dims(self) -> dict[str, int]:
        """D_m by name."""
        return {name: array.shape[1] for name, array in self.modalities.items()}

    @property
    def n_terms(self) -> dict[str, int]:
        """T_m by the name of each feature set with term weights, if it has any term at all."""
        return {name: matrix.shape[1] for name, matrix in sorted(self.terms.items()) if matrix.shape[1]}

    @property
    def n_observed(self) -> dict[str, int]:
        """Number of observed rows by name."""
        return {name: int(mask.sum()) for name, mask in self.observed.items()}

    @property
    def usable(self) -> np.ndarray:
        """Rows with at least one observed modality: shape (N,), bool."""
        return np.asarray(np.any(list(self.observed.values()), axis=0))

    def take(self, rows: np.ndarray) -> "FeatureRows":
        """Return a copy of some rows, given as indices or a mask of shape (N,)."""
        return FeatureRows(
            {name: array[rows] for name, array in self.modalities.items()},
            {name: mask[rows] for name, mask in self.observed.items()},
            terms={name: matrix[rows] for name, matrix in self.terms.items()},
        )

    def sample(self, n: int, random: np.random.Generator) -> "FeatureRows":
        """Return these rows, or a sample of `n` of them in their order if they are more."""
        return self if len(self) <= n else self.take(np.sort(random.choice(len(self), n, replace=False)))


def mean_and_deviation(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column, float64; the deviation of a constant column is 0.

    Columns of tiny values count as constant: scaled up, a single larger value would dominate all others.

    Args:
        rows: shape (N, D), N >= 1.
    """
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation < CONSTANT * np.maximum(1.0, np.abs(mean)), 0.0, deviation)


def class_indices(labels: Sequence[str | None], classes: Sequence[str]) -> np.ndarray:
    """Return the index of each label among the classes, -1 if it is none of them: shape (N,), int64."""
    index = {name: k for k, name in enumerate(classes)}
    return np.array([index.get(label or "", -1) for label in labels], dtype=np.int64)
