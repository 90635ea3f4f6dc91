"""Tables of labelled features without their videos, the input of comparative studies, and their `.npz` files."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nmcl.pipeline.crawl.descriptions import TextRows
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.extractor import Extracted, vectors_of
from nmcl.pipeline.records import SPLITS
from nmcl.pipeline.text import counted, examples, listed

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MAX_BYTES = 64 << 30
"""Largest unpacked size of a feature file: 25 times the paper's crawl."""
UNREADABLE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors that numpy and zipfile raise on damaged, encrypted and other files; zipfile also raises RuntimeError for an
unknown kind of compression."""
LABEL, SPLIT, IDS = "label", "split", "ids"
Fitted = Callable[[np.ndarray], np.ndarray | Extracted]
"""Makes a modality, with or without term weights, with an extractor fitted only on some rows, shape (N,), bool. See
`FeatureTable.modalities`."""


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
    fitted: Mapping[str, Fitted] = field(default_factory=dict)
    """Further modalities, which are made for each split: see `fitted_on`."""
    names: tuple[str, ...] = ()
    """N names of the rows, such as those of their files; empty if they have none."""
    terms: Mapping[str, "csr_array"] = field(default_factory=dict)
    """Sparse term weights of the modalities that have some, shape (N, T_m), float32; a row is empty where absent."""
    dimensions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """D_m names of the features of modalities that have some, such as the classes of a tagger."""

    def __len__(self) -> int:
        return len(self.label)

    def only(self, names: Iterable[str]) -> "FeatureTable":
        """Return the same rows with some of the modalities.

        Raises:
            StoreError: there is no such modality.
        """
        wanted, known = sorted(set(names)), sorted({**self.modalities, **self.fitted})
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise StoreError(f"Found no modality {listed(unknown)}; there are {listed(known)}.")
        kept = {name: self.modalities[name] for name in wanted if name in self.modalities}
        return replace(
            self,
            modalities=kept,
            fitted={name: self.fitted[name] for name in wanted if name in self.fitted},
            terms={name: self.terms[name] for name in wanted if name in self.terms},
        )

    def fitted_on(self, train: np.ndarray) -> "FeatureTable":
        """Return the table with all modalities, where those that need fitting are fitted on some of the rows.

        Args:
            train: The rows, shape (N,), bool.
        """
        made = {name: make(train) for name, make in self.fitted.items()}
        vectors = {name: vectors_of(found) for name, found in made.items()}
        found = {name: found.terms for name, found in made.items() if isinstance(found, Extracted)}
        terms = {name: matrix for name, matrix in found.items() if matrix is not None}
        return replace(
            self,
            modalities=dict(sorted({**self.modalities, **vectors}.items())),
            fitted={},
            terms={**self.terms, **terms},
        )


EXPECTED = (
    "Write it with numpy.savez(path, label=..., NAME=array, ...); labels must be integers or strings, not objects."
)


def read_feature_file(path: Path) -> FeatureTable:
    """Read an `.npz` file of features: every 2-D float array is a named modality, and NaN rows are absent.

    `label` (N,) holds integers or strings; a row with an empty string is left out. The optional `split` (N,) holds 0
    for training, 1 for validation, 2 for test; rows with another number are left out.

    Raises:
        StoreError: the file is not of this form; the message gives what was found and expected.
    """
    return _read(path, read_arrays(path, EXPECTED))[0]


def read_with_texts(path: Path, rows: TextRows) -> tuple[FeatureTable, list[str]]:
    """Read an `.npz` file of features, and the description of each row from another file.

    The rows of both files are joined by their ids if both have some (`ids` or `video_id` in the `.npz` file), else they
    are in the same order. Labels and splits are those of the feature file; what it lacks is taken from the other file.

    Returns:
        The table, and the descriptions of its rows, empty where there is none.

    Raises:
        StoreError: The rows do not fit, or as for `read_feature_file`; but one array of features is enough.
    """
    arrays = read_arrays(path, EXPECTED)
    order, note = _order(path, arrays, rows)
    if LABEL not in arrays and rows.labels:
        arrays[LABEL] = np.array([rows.labels[i] for i in order])
    split_in = path
    if SPLIT not in arrays and rows.splits and any(rows.splits):
        number = {"": -1} | {split: i for i, split in enumerate(SPLITS)}
        arrays[SPLIT], split_in = np.array([number[rows.splits[i]] for i in order]), rows.path
    return _read(path, arrays, (note,), [rows.texts[i] for i in order], split_in)


def _order(path: Path, arrays: dict[str, np.ndarray], rows: TextRows) -> tuple[Sequence[int], str]:
    """Return the row of the text file for each row of the feature file, and a note how they were joined.

    Removes the ids from the arrays.
    """
    ids = next((arrays.pop(name) for name in (IDS, "video_id") if name in arrays), None)
    if ids is None or rows.ids is None:
        n_rows = max((len(array) for array in arrays.values() if array.ndim == 2), default=0)
        if n_rows != len(rows.texts):
            raise StoreError(
                f"{path} has {counted(n_rows, 'row')} and {rows.path} has {len(rows.texts):,}, without blank lines; "
                f"expected the same rows in the same order, or an array {IDS!r} in the one and a column `video_id` in "
                "the other."
            )
        return range(n_rows), f"The descriptions of {rows.path.name} are taken in the order of the rows."
    own = [str(i) for i in (np.char.decode(ids, "utf-8", "replace") if ids.dtype.kind == "S" else ids).tolist()]
    for file, names in ((path, own), (rows.path, rows.ids)):
        if len(set(names)) < len(names):
            twice = next(name for name, n in Counter(names).items() if n > 1)
            raise StoreError(f"{file} has several rows with the id {twice!r}; expected one row per video.")
    own_ids, ids_beside = set(own), set(rows.ids)
    if own_ids != ids_beside:
        first, second = (examples(sorted(a - b)) or "none" for a, b in ((own_ids, ids_beside), (ids_beside, own_ids)))
        raise StoreError(
            f"{path} and {rows.path} have different videos; only in the first: {first}; only in the second: {second}. "
            "Expected the same ids; a description may be empty, a vector NaN."
        )
    at = {name: i for i, name in enumerate(rows.ids)}
    return [at[name] for name in own], f"The descriptions of {rows.path.name} are joined by their ids."


def _read(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    before: Sequence[str] = (),
    texts: Sequence[str] | None = None,
    split_in: Path | None = None,
) -> tuple[FeatureTable, list[str]]:
    """Return the table of the arrays of a file, and the descriptions of its rows.

    Args:
        before: First notes of the table.
        texts: Descriptions of all rows of the file, if there are any.
        split_in: File of the split, for messages. Default: `path`.
    """
    notes = [*before]
    modalities = {
        name: array
        for name, array in sorted(arrays.items())
        if array.ndim == 2 and np.issubdtype(array.dtype, np.floating)
    }
    ignored = sorted(arrays.keys() - modalities.keys() - {LABEL, SPLIT})
    if ignored:
        notes.append(f"Ignored {listed(ignored)}: a modality is a 2-D float array.")
    if len(modalities) < (2 if texts is None else 1):
        raise StoreError(
            f"{path} has {len(modalities)} 2-D float arrays ({listed(modalities) or 'none'}); expected two or more, or "
            "one with --texts, each a modality by its name with one row per video."
        )
    if LABEL not in arrays:
        column = "" if texts is None else ", or a column `label` beside the descriptions"
        raise StoreError(f"{path} has no array {LABEL!r}; expected one label per row, integers or strings{column}.")
    n_rows = len(next(iter(modalities.values())))
    modalities = {name: _modality(path, name, array, n_rows) for name, array in modalities.items()}
    label, kept = _labels(path, arrays[LABEL], n_rows)
    split = _split(split_in or path, arrays[SPLIT], n_rows) if SPLIT in arrays else None
    if split is not None:
        kept &= split != ""
    empty = np.all([np.isnan(array[:, 0]) for array in modalities.values()], axis=0)
    if texts is not None:
        empty &= np.array([not text for text in texts])
    for reason, rows in (("no label or no split", ~kept), ("no modality at all", kept & empty)):
        if rows.any():
            notes.append(f"Left out {counted(int(rows.sum()), 'row')}: {reason}.")
    kept &= ~empty
    if not kept.any():
        raise StoreError(f"{path} has no row with a label, a split and a modality.")
    modalities = {name: array[kept] for name, array in modalities.items()}
    table = labelled(modalities, label[kept], None if split is None else split[kept], tuple(notes))
    return table, [text for text, is_kept in zip(texts or (), kept, strict=False) if is_kept]


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
