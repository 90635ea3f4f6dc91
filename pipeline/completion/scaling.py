"""Working units shared by all completers: each feature is standardised, so that none dominates the factors."""

from dataclasses import dataclass

import numpy as np

from nmcl.pipeline.completion.base import Pattern
from nmcl.pipeline.completion.table import walk
from nmcl.pipeline.features import CONSTANT, FeatureRows
from nmcl.pipeline.records import State

CACHED_ROWS = 64
"""Rows converted to working units at a time: half a megabyte of 2,048 columns fits in a core's cache."""
LIMIT = 30.0
"""Standard deviations at which values are clipped: one broken feature must not dominate a row."""
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation of each feature over the observed training rows, and a weight per block.

    working value = weight * clip((value - mean) / std, -LIMIT, LIMIT)
    """

    mean: dict[str, np.ndarray]
    """Name -> (D_m,) float32; 0 for a block never observed."""
    std: dict[str, np.ndarray]
    """Name -> (D_m,) float32; 0 where constant or never observed, and there the working value is 0."""
    weight: dict[str, float]
    """Name -> factor of the whole block, above 0."""

    def read(self, table: FeatureRows, names: Pattern, rows: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
        """Return rows of some blocks concatenated in working units, shape (n, sum of D_m), float32; all observed.

        Args:
            room: Output buffer of at least n rows of that width.
        """
        width = sum(table.modalities[name].shape[1] for name in names)
        out = np.empty((len(rows), width), np.float32) if room is None else room[: len(rows)]
        for begin in range(0, len(rows), CACHED_ROWS):
            few = slice(begin, begin + CACHED_ROWS)
            start = 0
            for name in names:
                stop = start + table.modalities[name].shape[1]
                out[few, start:stop] = self.standardise(name, table.modalities[name][rows[few]])
                start = stop
        return out

    def standardise(self, name: str, values: np.ndarray) -> np.ndarray:
        """Convert values (n, D_m) from original to working units, float32."""
        varies = self.std[name] > 0
        with np.errstate(over="ignore"):  # an overflow becomes infinite, and LIMIT after the clip
            z: np.ndarray = values - self.mean[name]
            z /= np.where(varies, self.std[name], 1)
        np.clip(z, -LIMIT, LIMIT, out=z)
        z *= np.float32(self.weight[name]) * varies
        return z

    def restore(self, name: str, z: np.ndarray) -> np.ndarray:
        """Convert values (n, D_m) from working to original units, float32, finite."""
        values = z / self.weight[name] * self.std[name].astype(np.float64) + self.mean[name]
        bounded: np.ndarray = np.clip(values, -FLOAT32_MAX, FLOAT32_MAX)
        return bounded.astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the scaling that a state stores."""
        means = {f"mean/{name}": mean for name, mean in self.mean.items()}
        return means | {f"std/{name}": std for name, std in self.std.items()}


def fit_scaling(table: FeatureRows, *, balance: bool) -> Scaling:
    """Fit the scaling to training rows. With `balance`, squares of all blocks sum to about the same."""
    mean, std = {}, {}
    for name in table.modalities:
        mean[name], std[name] = _moments(table, name)
    return Scaling(mean, std, _weights(table.dims, balance=balance))


def scaling_of(state: State) -> Scaling:
    """Return the scaling stored in a state."""
    dims: dict[str, int] = state.info["blocks"]
    return Scaling(
        {name: state.arrays[f"mean/{name}"] for name in dims},
        {name: state.arrays[f"std/{name}"] for name in dims},
        state.info["weight"],
    )


def _weights(dims: dict[str, int], *, balance: bool) -> dict[str, float]:
    """Return sqrt(average width / own width), so that an entry still has variance 1 on average over all columns."""
    average = sum(dims.values()) / len(dims)
    return {name: float(np.sqrt(average / d)) if balance else 1.0 for name, d in dims.items()}


def _moments(table: FeatureRows, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of one block's columns, chunk by chunk in float64 (Chan et al. 1979)."""
    n, mean, squares = 0, np.zeros(table.dims[name]), np.zeros(table.dims[name])
    for pattern, rows in walk(table):
        if name not in pattern:
            continue
        values = table.modalities[name][rows].astype(np.float64)
        chunk_mean = values.mean(axis=0)
        shift = chunk_mean - mean
        total = n + len(rows)
        values -= chunk_mean
        squares += np.einsum("ij,ij->j", values, values) + shift**2 * (n * len(rows) / total)
        mean += shift * (len(rows) / total)
        n = total
    std = np.sqrt(squares / max(n, 1))
    std[std <= np.maximum(CONSTANT * np.abs(mean), np.finfo(np.float32).tiny)] = 0
    return mean.astype(np.float32), std.astype(np.float32)
