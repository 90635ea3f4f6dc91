"""NumPy files that are written block by block. A memory map would fill memory with pages that are not yet on disk."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nmcl.pipeline.export.record import FeatureSet


def write_npy(file: BinaryIO, shape: Sequence[int], dtype: str, blocks: Iterable[np.ndarray]) -> None:
    """Write an array of `.npy` from blocks along its first axis."""
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block, dtype).tobytes())


def write_matrices(folder: Path, matrices: Mapping[str, FeatureSet]) -> dict[str, str]:
    """Write `NAME.npy`, shape (N, D), float32, for each feature set. Returns the set of each file."""
    for name, feature in matrices.items():
        with (folder / f"{name}.npy").open("wb") as file:
            write_npy(file, (len(feature.observed), feature.dim), "<f4", feature.blocks())
    return {f"{name}.npy": feature.name for name, feature in matrices.items()}


def write_ids(path: Path, ids: Sequence[str]) -> None:
    """Write a JSON list of ids in the order of the rows."""
    path.write_text(json.dumps(list(ids), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
