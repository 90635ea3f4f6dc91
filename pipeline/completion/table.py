"""Checked blocks, and iteration over their rows in chunks, grouped by missingness pattern."""

from collections.abc import Iterator

import numpy as np

from nmcl.pipeline.completion.base import Blocks, Pattern
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.features import FeatureRows

CHUNK_ROWS = 4096
"""Rows processed at once: 38 MB of float32 at the paper's 2,348 columns."""


def walk(table: FeatureRows) -> Iterator[tuple[Pattern, np.ndarray]]:
    """Yield each pattern and the indices of its rows, chunk by chunk; patterns in a fixed order."""
    names = tuple(table.modalities)
    for start in range(0, len(table), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        has = np.stack([table.observed[name][rows] for name in names], axis=1)
        kinds, kind_of_row = np.unique(has, axis=0, return_inverse=True)
        for i, kind in enumerate(kinds):
            pattern = tuple(name for name, there in zip(names, kind, strict=True) if there)
            yield pattern, start + np.flatnonzero(kind_of_row.ravel() == i)


def check(blocks: Blocks) -> FeatureRows:
    """Return the blocks in sorted order after checking them: equal length, float32, each row all NaN or all finite.

    Nothing is copied.

    Raises:
        StoreError: If there are no blocks or no columns, a block is not two-dimensional float32, lengths are unequal, a
            row is NaN in part, or a value is infinite.
    """
    if not blocks:
        raise StoreError("There is no feature block to complete: expected at least one modality.")
    for name, block in blocks.items():
        if block.ndim != 2 or block.shape[1] == 0 or block.dtype != np.float32:
            raise StoreError(
                f"Features of {name!r} have shape {block.shape} and type {block.dtype}: expected "
                "(rows, columns) float32 with at least one column. Extract them again."
            )
    lengths = {name: len(block) for name, block in sorted(blocks.items())}
    if len(set(lengths.values())) > 1:
        raise StoreError(
            f"Modalities have different numbers of rows: {lengths}. Each video needs one row in each modality."
        )
    ordered = {name: blocks[name] for name in sorted(blocks)}
    return FeatureRows(ordered, {name: _observed(name, block) for name, block in ordered.items()})


def empty_rows(blocks: Blocks) -> np.ndarray:
    """Return which rows have no modality at all, (N,) bool: completion only gives them the training means.

    Raises:
        StoreError: As `check`.
    """
    return ~check(blocks).usable


def _observed(name: str, block: np.ndarray) -> np.ndarray:
    """Return which rows of the block are observed, (N,) bool."""
    observed = np.empty(len(block), dtype=bool)
    for start in range(0, len(block), CHUNK_ROWS):
        chunk = block[start : start + CHUNK_ROWS]
        n_nan = np.isnan(chunk).sum(axis=1)
        _refuse_damage(name, start, chunk, n_nan)
        observed[start : start + CHUNK_ROWS] = n_nan == 0
    return observed


def _refuse_damage(name: str, start: int, chunk: np.ndarray, n_nan: np.ndarray) -> None:
    n_columns = chunk.shape[1]
    partial = np.flatnonzero((n_nan > 0) & (n_nan < n_columns))
    if partial.size:
        raise StoreError(
            f"Row {start + partial[0]} of {name!r} has {n_nan[partial[0]]} NaN in {n_columns} columns: "
            "expected none, or all where the modality is absent. The features are damaged: extract again."
        )
    infinite = np.flatnonzero(np.isinf(chunk).any(axis=1))
    if infinite.size:
        raise StoreError(
            f"Row {start + infinite[0]} of {name!r} has an infinite value: expected finite numbers. "
            "The features are damaged: extract them again."
        )
