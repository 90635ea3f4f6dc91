"""Tables of labelled features without their videos, the input of comparative studies, and their `.npz` files."""

import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import SPLITS
from nmcl.pipeline.text import counted, listed

MAX_BYTES = 64 << 30
"""Largest unpacked size of a feature file: 25 times the paper's crawl."""
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors that numpy and zipfile raise on damaged, encrypted and other files; zipfile also raises RuntimeError for an
unknown kind of compression."""
LABEL, SPLIT = "label", "split"


@dataclass(frozen=True)
class FeatureTable:
    """Table of N labelled rows with named modalities."""

    modalities: dict[str, np.ndarray]
    """By name in sorted order, shape (N, D_m), float32; a row is all NaN where the modality is absent."""
    label: np.ndarray
    """Shape (N,), int64, index into `classes`."""
    classes: tuple[str, ...]
    """K names, sorted; integer labels in the order of the integers."""
    split: np.ndarray | None = None
    """Shape (N,), text: `train`, `validation` or `test`; None if the study has to split."""
    notes: tuple[str, ...] = ()
    """Caveats that a reader of the results must know."""

    def __len__(self) -> int:
        return len(self.label)

    def only(self, names: Iterable[str]) -> "FeatureTable":
        """Return the same rows with some of the modalities.

        Raises:
            StoreError: there is no such modality.
        """
        wanted = sorted(set(names))
        unknown = [name for name in wanted if name not in self.modalities]
        if unknown or not wanted:
            raise StoreError(f"Found no modality {listed(unknown)}; there are {listed(self.modalities)}.")
        kept = {name: self.modalities[name] for name in wanted}
        return FeatureTable(kept, self.label, self.classes, self.split, self.notes)


def read_feature_file(path: Path) -> FeatureTable:
    """Read an `.npz` file of features: every 2-D float array is a named modality, and NaN rows are absent.

    `label` (N,) holds integers or strings; a row with an empty string is left out. The optional `split` (N,) holds 0
    for training, 1 for validation, 2 for test; rows with another number are left out.

    Raises:
        StoreError: the file is not of this form; the message gives what was found and expected.
    """
    expected = (
        "Write it with numpy.savez(path, label=..., NAME=array, ...); labels must be integers or strings, not objects."
    )
    arrays = read_arrays(path, expected)
    notes: list[str] = []
    modalities = {
        name: array
        for name, array in sorted(arrays.items())
        if array.ndim == 2 and np.issubdtype(array.dtype, np.floating)
    }
    ignored = sorted(arrays.keys() - modalities.keys() - {LABEL, SPLIT})
    if ignored:
        notes.append(f"Ignored {listed(ignored)}: a modality is a 2-D float array.")
    if len(modalities) < 2:
        raise StoreError(
            f"{path} has {len(modalities)} 2-D float arrays ({listed(modalities) or 'none'}); expected two or more, "
            "each a modality by its name with one row per video."
        )
    if LABEL not in arrays:
        raise StoreError(f"{path} has no array {LABEL!r}; expected one label per row, integers or strings.")
    n_rows = len(next(iter(modalities.values())))
    modalities = {name: _modality(path, name, array, n_rows) for name, array in modalities.items()}
    label, kept = _labels(path, arrays[LABEL], n_rows)
    split = _split(path, arrays[SPLIT], n_rows) if SPLIT in arrays else None
    if split is not None:
        kept &= split != ""
    empty = np.all([np.isnan(array[:, 0]) for array in modalities.values()], axis=0)
    for reason, rows in (("no label or no split", ~kept), ("no modality at all", kept & empty)):
        if rows.any():
            notes.append(f"Left out {counted(int(rows.sum()), 'row')}: {reason}.")
    kept &= ~empty
    if not kept.any():
        raise StoreError(f"{path} has no row with a label, a split and a modality.")
    modalities = {name: array[kept] for name, array in modalities.items()}
    return labelled(modalities, label[kept], None if split is None else split[kept], tuple(notes))


def labelled(
    modalities: Mapping[str, np.ndarray], label: np.ndarray, split: np.ndarray | None, notes: tuple[str, ...] = ()
) -> FeatureTable:
    """Build a table from valid arrays and labels of any sortable type.

    Raises:
        StoreError: fewer than two different labels.
    """
    names, index = np.unique(label, return_inverse=True)
    if len(names) < 2:
        raise StoreError(f"Found {len(names)} different labels; expected at least two to tell apart.")
    classes = tuple(str(name) for name in names)
    return FeatureTable(dict(sorted(modalities.items())), index.ravel().astype(np.int64), classes, split, notes)


def read_arrays(path: Path, expected: str) -> dict[str, np.ndarray]:
    """Return all arrays of an `.npz` file without pickled objects.

    Args:
        path: the file.
        expected: what the file should hold, a sentence for the error.

    Raises:
        StoreError: there is no such file, it is damaged, or its unpacked size is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
        if n_bytes > MAX_BYTES:
            raise StoreError(f"{path} unpacks to {n_bytes:,} bytes; expected at most {MAX_BYTES:,}.")
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except FileNotFoundError as error:
        raise StoreError(f"There is no file {path}. Give an .npz file.") from error
    except UNREADABLE as error:
        raise StoreError(f"{path} cannot be read as .npz: {error}. {expected}") from error


def _modality(path: Path, name: str, array: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the modality as float32, each row all NaN or all finite."""
    if array.shape[0] != n_rows or array.shape[1] == 0:
        raise StoreError(f"{path}: {name!r} has shape {array.shape}; expected ({n_rows}, D) with D >= 1.")
    with np.errstate(over="ignore"):  # float32 overflow becomes infinite and is rejected below
        values = array.astype(np.float32)
    n_nan = np.isnan(values).sum(axis=1)
    partial = np.flatnonzero((n_nan > 0) & (n_nan < values.shape[1]))
    infinite = np.flatnonzero(np.isinf(values).any(axis=1))
    if len(partial):
        raise StoreError(
            f"{path}: row {partial[0]} of {name!r} is NaN in {n_nan[partial[0]]} of {values.shape[1]} columns; "
            "expected none, or all where the modality is absent."
        )
    if len(infinite):
        raise StoreError(f"{path}: row {infinite[0]} of {name!r} has an infinite value; expected finite float32.")
    return values


def _labels(path: Path, label: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, and which rows have one."""
    if label.shape != (n_rows,):
        raise StoreError(f"{path}: {LABEL!r} has shape {label.shape}; expected ({n_rows},), one per row.")
    if np.issubdtype(label.dtype, np.integer):
        return label, np.ones(n_rows, bool)
    if label.dtype.kind == "S":
        label = np.char.decode(label, "utf-8", "replace")
    if label.dtype.kind != "U":
        raise StoreError(f"{path}: {LABEL!r} has type {label.dtype}; expected integers or strings.")
    return label, np.char.strip(label) != ""


def _split(path: Path, split: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the names of the splits for the file's numbers; empty for other numbers."""
    if split.shape != (n_rows,) or not np.issubdtype(split.dtype, np.integer):
        raise StoreError(
            f"{path}: {SPLIT!r} is {split.dtype} of shape {split.shape}; expected ({n_rows},) integers, "
            "0 for training, 1 for validation, 2 for test."
        )
    words = np.select([split == number for number in range(len(SPLITS))], SPLITS, "")
    for number, name in enumerate(SPLITS):
        if name not in words:
            raise StoreError(f"{path}: {SPLIT!r} has no {name} row ({number}); each of 0, 1 and 2 needs some.")
    return words
