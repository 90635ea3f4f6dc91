"""One `.npz` file of NumPy, which `nmcl reproduce --features` reads, too."""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nmcl.pipeline.export.arrays import write_npy
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.records import SPLITS


def write(export: Export, path: Path) -> Written:
    """Write `X_SET` (N, D) and `observed_SET` (N,) for each feature set, `ids`, `label` and `split`.

    `label` is empty without a label. `split` is 0 for training, 1 for validation, 2 for test, -1 for none; it is left
    out if no video has one.
    """
    number = {split: i for i, split in enumerate(SPLITS)}
    with zipfile.ZipFile(path, "w") as archive:
        for feature in export.features:
            shape = (len(export), feature.dim)
            _add(archive, f"X_{feature.name}", shape, "<f4", feature.blocks())
            _add(archive, f"observed_{feature.name}", shape[:1], "|b1", [feature.observed])
        _add_whole(archive, "ids", np.array(export.ids, np.str_))
        _add_whole(archive, "label", np.array([label or "" for label in export.labels], np.str_))
        if any(export.splits):
            _add_whole(archive, "split", np.array([number[s] if s else -1 for s in export.splits], np.int8))
    return Written({f"X_{feature.name}": feature.name for feature in export.features})


def _add_whole(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    _add(archive, name, array.shape, array.dtype.str, [array])


def _add(archive: zipfile.ZipFile, name: str, shape: Sequence[int], dtype: str, blocks: Iterable[np.ndarray]) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:  # dated 1980, always
        write_npy(file, shape, dtype, blocks)  # type: ignore[arg-type]  # a file for writing only
