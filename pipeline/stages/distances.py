"""Distances between videos: one minus the cosine of standardised vectors, from 0 (same) over 1 (unrelated) to 2.

Standardising gives every number of a vector the same weight; without it, most vectors of a network have small angles.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nmcl.pipeline.features import mean_and_deviation

LIMIT = 30.0
"""Standard deviations at which values are clipped, so that one number does not decide everything."""


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of each number of the vectors of one feature set."""

    mean: np.ndarray
    """Shape (D,), float32."""
    deviation: np.ndarray
    """Shape (D,), float32; 0 where constant."""

    def directions(self, vectors: np.ndarray) -> np.ndarray:
        """Return standardised vectors of length 1.

        Args:
            vectors: Shape (N, D), float32; NaN rows where absent.

        Returns:
            Shape (N, D), float32: a row of zeros where nothing deviates from the mean, NaN where absent.
        """
        varies = self.deviation > 0
        z = (vectors - self.mean) / np.where(varies, self.deviation, np.float32(1))
        np.clip(z, -LIMIT, LIMIT, out=z)
        z *= varies
        length = np.sqrt(np.einsum("ij,ij->i", z, z))
        z /= np.where(length > 0, length, np.float32(1))[:, None]
        directions: np.ndarray = z
        return directions


def standard_of(blocks: Iterable[np.ndarray]) -> Standard | None:
    """Return the standard of some blocks of vectors, (n, D) float32 with NaN rows; None if all rows are absent."""
    present = [block[~np.isnan(block[:, 0])] for block in blocks]
    if not any(len(block) for block in present):
        return None
    mean, deviation = mean_and_deviation(np.concatenate(present))
    return Standard(mean.astype(np.float32), deviation.astype(np.float32))


def distances(directions: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the distances of N directions, (N, D), from one, (D,): shape (N,), float32, NaN where absent."""
    found: np.ndarray = np.maximum(0, 1 - directions @ direction)
    return found


def close_pairs(first: np.ndarray, second: np.ndarray, radius: float) -> Iterator[tuple[int, int, float]]:
    """Yield all pairs of rows of two blocks that are at most `radius` apart, with their distance.

    Args:
        first, second: Directions, shape (N, D) and (M, D), float32; NaN rows where absent, which are in no pair.
    """
    from sklearn.neighbors import NearestNeighbors

    rows, columns = (np.flatnonzero(~np.isnan(block[:, 0])) for block in (first, second))
    if not len(rows) or not len(columns):
        return
    index = NearestNeighbors(radius=radius, metric="cosine", algorithm="brute").fit(second[columns])
    apart, found = index.radius_neighbors(first[rows])
    for i, (near, values) in enumerate(zip(found, apart, strict=True)):
        for j, distance in zip(near, values, strict=True):
            yield int(rows[i]), int(columns[j]), float(distance)
