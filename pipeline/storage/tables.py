"""Arrow tables as the Parquet files of a store, which no other module reads or writes.

Other modules build and use Arrow tables, and three handle Parquet files outside a store: `nmcl.flows.run.predict`
writes predictions, `nmcl.pipeline.export.rows` exports features, `nmcl.pipeline.crawl.formats` reads manifests.

Equal tables give equal bytes: no time, path or host is written to a file.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.store import Store

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VIDEO_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("crawl", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int64(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("venue", pa.string()),
        pa.field("split", pa.string()),
        pa.field("duplicate_of", pa.string()),
    ]
)


def encode(table: pa.Table) -> bytes:
    """Return a table as the bytes of one Parquet file."""
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


class _Vectors:
    """Type of a column of `from_vectors`, of any length."""


class _Sequences:
    """Type of a column of `from_sequences`, of vectors of any length."""


SEQUENCE, SEQUENCE_TIMES = "sequence", "sequence_s"
"""Columns of features that keep what was pooled."""
TERMS, TERM_WEIGHTS, N_TERMS = "terms", "term_weights", "n_terms"
"""Columns of features with sparse term weights, and the key of the table's metadata with the number of all terms. In
completed parts, the name of the feature set and an underscore come before each."""
MOST_TERMS = 1 << 24
"""Most terms of a feature set."""
_TEXT, _VECTORS, _SEQUENCES = pa.string(), _Vectors(), _Sequences()
_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "videos/part-": {field.name: field for field in VIDEO_SCHEMA},
    "videos/files-": {"path": _TEXT, "n_bytes": pa.int64(), "mtime_ns": pa.int64(), "sha256": _TEXT},
    "videos/rejected-": {
        "line": pa.int64(),
        "video_id": pa.field("video_id", _TEXT),
        "path": pa.field("path", _TEXT),
        "problem": _TEXT,
    },
    "features/": {"video_id": _TEXT, "vector": _VECTORS},
    "texts/": {"video_id": _TEXT, "text": pa.field("text", _TEXT)},
    "failures/": {"video_id": _TEXT, "kind": _TEXT, "detail": _TEXT},
    "completed/": {"video_id": _TEXT},
    "thumbnails/": {
        "video_id": _TEXT,
        "images": pa.field("images", pa.list_(pa.binary())),
        "times_s": pa.field("times_s", pa.list_(pa.float32())),
    },
}
"""Required columns of a file, by the start of its name in the store; it may have more."""
_OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "features/": {
        "remark": pa.field("remark", _TEXT),
        "key_frames_s": pa.field("key_frames_s", pa.list_(pa.float32())),
        SEQUENCE: _SEQUENCES,
        SEQUENCE_TIMES: pa.field(SEQUENCE_TIMES, pa.list_(pa.float32())),
    },
    "texts/": {
        "lines": pa.field("lines", pa.list_(_TEXT)),
        "lines_s": pa.field("lines_s", pa.list_(pa.float32())),
        "file": pa.field("file", _TEXT),
        "remark": pa.field("remark", _TEXT),
    },
    "failures/": {"modality": pa.field("modality", _TEXT), "attempts": pa.int32()},
    "thumbnails/": {"spectrogram": pa.field("spectrogram", pa.binary())},
}
"""Optional columns of a file with their required types: earlier versions wrote fewer."""
_OBSERVED = "_observed"
"""Ending of the column that says which vectors of a feature set were extracted, and not completed."""
_RUN_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "splits.parquet": {"sha256": _TEXT, "split": _TEXT},
    "predictions.parquet": {"video_id": _TEXT, "status": _TEXT, "venue_1": pa.field("venue_1", _TEXT)},
}
"""Required columns of the files of a run, by the rest of their name. A field may be null, a type alone may not."""


def decode(data: bytes, name: str, n_rows: int | None = None) -> pa.Table:
    """Return the table in the bytes of a Parquet file of the store.

    Args:
        name: Name of the file in the store; it decides the required columns.
        n_rows: Required number of rows; None: any number.

    Raises:
        StoreError: If it is no such file, or lacks these columns or rows; names the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that is never used
            # Arrow's own threads would take the GIL to free Python's bytes, and abort the interpreter while it ends:
            # https://github.com/apache/arrow/issues/34314. Without them, reading is no slower for files of this size.
            table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise _damaged(name, str(error)) from error
    if n_rows is not None and len(table) != n_rows:
        raise _damaged(name, f"{len(table):,} rows, expected {n_rows:,}")
    for column, wanted in _columns(name, _SHAPES, _RUN_SHAPES.get(name.rsplit("/", 1)[-1], {})).items():
        _check(table, column, wanted, name)
    for column, wanted in _columns(name, _OPTIONAL, {}).items():
        if column in table.column_names:
            _check(table, column, wanted, name)
    if name.startswith("features/"):
        to_terms(table, name)
    if name.startswith("completed/"):
        for column in (names := completed_names(table)):
            _check(table, column, _VECTORS, name)
            _check(table, f"{column}{_OBSERVED}", pa.bool_(), name)
            to_terms(table, name, column)
        if not names:
            raise _damaged(name, "no feature set")
    return table


def completed_names(table: pa.Table) -> list[str]:
    """Return the feature sets in a part of completed vectors, in order."""
    return [name.removesuffix(_OBSERVED) for name in table.column_names if name.endswith(_OBSERVED)]


def read_table(store: Store, name: str, n_rows: int | None = None) -> pa.Table:
    """Return `decode` of a file of the store."""
    return decode(store.read(name), name, n_rows)


def count_values(store: Store, name: str, wanted: str) -> tuple[int, int]:
    """Return the number of rows of a part, and how many have a value in a column; reads only the end of the file.

    Args:
        wanted: Name of the column, such as `vector`.

    Raises:
        StoreError: If the file is missing, or has no such column.
    """
    with store.open_file(name) as file:
        try:
            metadata = pq.read_metadata(file)
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            columns = [group.column(i) for group in groups for i in range(group.num_columns)]
            chunks = [column for column in columns if column.path_in_schema.split(".")[0] == wanted]
            n_absent = sum(chunk.statistics.null_count for chunk in chunks)
        except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
            raise _damaged(name, str(error)) from error
    if len(chunks) != len(groups):
        raise _damaged(name, f"no column {wanted!r}")
    return metadata.num_rows, metadata.num_rows - n_absent


def has_column(store: Store, name: str, column: str) -> bool:
    """Return whether a part has a column, which earlier versions did not write; reads only the end of the file.

    Raises:
        StoreError: If the file is missing or damaged.
    """
    with store.open_file(name) as file:
        try:
            return column in pq.read_schema(file).names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(name, str(error)) from error


def _columns(name: str, shapes: Mapping[str, Mapping[str, Any]], otherwise: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((columns for beginning, columns in shapes.items() if name.startswith(beginning)), otherwise)


def _check(table: pa.Table, name: str, wanted: Any, file: str) -> None:
    n_found = table.column_names.count(name)
    if n_found != 1:
        raise _damaged(file, f"{n_found} columns {name!r}, expected one")
    column = table.column(name)
    if wanted is _VECTORS:
        if not _are_vectors(column.type):
            raise _damaged(file, f"column {name!r} is of type {column.type}, expected vectors of float32")
        if not np.isfinite(to_vectors(column)[~is_null(column)]).all():
            raise _damaged(file, f"column {name!r} holds numbers that are not finite")
        return
    if wanted is _SEQUENCES:
        if not (pa.types.is_list(column.type) and _are_vectors(column.type.value_type)):
            raise _damaged(file, f"column {name!r} is of type {column.type}, expected lists of vectors of float32")
        values = column.combine_chunks().flatten()
        if values.null_count or not np.isfinite(values.flatten().to_numpy(zero_copy_only=False)).all():
            raise _damaged(file, f"column {name!r} holds numbers that are not finite")
        return
    field = wanted if isinstance(wanted, pa.Field) else pa.field(name, wanted, nullable=False)
    if column.type != field.type:
        raise _damaged(file, f"column {name!r} is of type {column.type}, expected {field.type}")
    if column.null_count and not field.nullable:
        raise _damaged(file, f"column {name!r} lacks {column.null_count:,} values")


def _are_vectors(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32() and kind.list_size >= 1)


def _damaged(name: str, found: str) -> StoreError:
    return StoreError(
        f"{name} is damaged or was not written by nmcl ({found[:500]}). Delete it, and repeat the command that "
        "created it."
    )


def from_videos(videos: Sequence[Video]) -> pa.Table:
    """Return rows of the catalogue as a table of VIDEO_SCHEMA."""
    return pa.Table.from_pylist([asdict(video) for video in videos], schema=VIDEO_SCHEMA)


def to_videos(table: pa.Table) -> list[Video]:
    """Return rows of the catalogue from a table of VIDEO_SCHEMA."""
    return [Video(**row) for row in table.select(VIDEO_SCHEMA.names).to_pylist()]


def from_vectors(vectors: np.ndarray) -> pa.Array:
    """Return vectors as a column of fixed-size lists.

    Args:
        vectors: Shape (N, D), float32; a row of NaN becomes null.
    """
    present = ~np.isnan(vectors).any(axis=1)
    values = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=pa.array(~present))


def to_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of `from_vectors` as shape (N, D), float32, NaN rows where null."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    dim = array.type.list_size
    numbers = array.values
    # `to_numpy` would import pandas, which takes longer than reading a small store.
    values = numbers.to_numpy(zero_copy_only=False) if numbers.null_count else np.from_dlpack(numbers)
    vectors = np.array(values, dtype=np.float32)
    vectors = vectors[array.offset * dim : (array.offset + len(array)) * dim].reshape(len(array), dim)
    vectors[is_null(array)] = np.nan
    return vectors


def is_null(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return which values of a column are null: shape (N,), bool."""
    nulls = column.is_null().cast(pa.uint8())
    chunks = nulls.chunks if isinstance(nulls, pa.ChunkedArray) else [nulls]
    found: np.ndarray = np.concatenate([np.empty(0, np.uint8), *map(np.from_dlpack, chunks)]).astype(bool)
    return found


def from_sequences(sequences: Sequence[np.ndarray | None], dim: int) -> pa.Array:
    """Return sequences of vectors as a column of lists of fixed-size lists.

    Args:
        sequences: Each of shape (T, D), float32, finite, with its own T; None becomes null.
        dim: D.
    """
    present = [sequence for sequence in sequences if sequence is not None]
    values = np.concatenate([np.empty((0, dim), np.float32), *present], dtype=np.float32)
    ends = np.cumsum([0 if sequence is None else len(sequence) for sequence in sequences], dtype=np.int32)
    return pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], ends]), pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), dim),
        mask=pa.array([sequence is None for sequence in sequences], pa.bool_()),
    )


def to_sequences(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """Return a column of `from_sequences` as arrays of shape (T, D), float32; None where null."""
    dim = column.type.value_type.list_size
    found = []
    for value in column:
        flat = None if not value.is_valid else value.values.flatten().to_numpy(zero_copy_only=False)
        found.append(None if flat is None else flat.reshape(-1, dim))
    return found


TermRow = tuple[np.ndarray, np.ndarray]
"""Columns, int32, sorted, and weights, float32, of one row of a sparse matrix."""


def term_names(feature: str = "") -> tuple[str, str, str]:
    """Return the names of the columns of term weights and the key of their number, by default those of `features/`."""
    before = f"{feature}_" if feature else ""
    return f"{before}{TERMS}", f"{before}{TERM_WEIGHTS}", f"{before}{N_TERMS}"


def with_terms(table: pa.Table, rows: Sequence[TermRow | None], n_terms: int) -> pa.Table:
    """Return a table with columns of term weights; None becomes null."""
    ends = np.cumsum([0 if row is None else len(row[0]) for row in rows], dtype=np.int32)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    absent = pa.array([row is None for row in rows], pa.bool_())
    for i, (name, kind) in enumerate(((TERMS, np.int32), (TERM_WEIGHTS, np.float32))):
        values = np.concatenate([np.empty(0, kind), *(row[i] for row in rows if row is not None)], dtype=kind)
        table = table.append_column(name, pa.ListArray.from_arrays(offsets, pa.array(values), mask=absent))
    return table.replace_schema_metadata({**(table.schema.metadata or {}), N_TERMS: str(n_terms)})


def to_terms(table: pa.Table, file: str, feature: str = "") -> "csr_array | None":
    """Return the term weights of a table, shape (N, n_terms), float32, empty rows where null; None if it has none.

    Args:
        file: Name of the file in the store, for messages.
        feature: The feature set, in a completed part.

    Raises:
        StoreError: If they are not the rows of a sparse matrix, with sorted columns and finite weights.
    """
    terms, weights, key = term_names(feature)
    metadata = table.schema.metadata or {}
    if key.encode() not in metadata and (feature or not {terms, weights} & {*table.column_names}):
        return None
    try:
        n_terms = int(metadata.get(key.encode(), b"none"))
    except ValueError:
        n_terms = -1
    if not 0 <= n_terms <= MOST_TERMS:
        raise _damaged(file, f"its {key} is not a number in 0..{MOST_TERMS:,}")
    for name, kind in ((terms, pa.int32()), (weights, pa.float32())):
        _check(table, name, pa.field(name, pa.list_(kind)), file)
    (n_of, columns), (n_weights, values) = (_lists(table.column(name)) for name in (terms, weights))
    is_same = np.array_equal(is_null(table.column(terms)), is_null(table.column(weights)))
    if not is_same or not np.array_equal(n_of, n_weights):
        raise _damaged(file, f"columns {terms!r} and {weights!r} have lists of different lengths")
    if columns.null_count or values.null_count or not np.isfinite(np.from_dlpack(values)).all():
        raise _damaged(file, f"column {weights!r} holds numbers that are not finite")
    return _matrix(n_of, np.array(np.from_dlpack(columns)), np.array(np.from_dlpack(values)), n_terms, file)


def _matrix(n_of: np.ndarray, columns: np.ndarray, values: np.ndarray, n_terms: int, file: str) -> "csr_array":
    """Return a sparse matrix from the number of values of each row, and the columns and values of all."""
    from scipy.sparse import csr_array

    starts = np.concatenate([[0], np.cumsum(n_of)])
    is_first = np.zeros(len(columns) + 1, bool)
    is_first[starts] = True
    is_sorted = bool((np.diff(columns) > 0)[~is_first[1:-1]].all())
    if not is_sorted or (len(columns) and not (columns.min() >= 0 and columns.max() < n_terms)):
        raise _damaged(file, f"its terms are not sorted numbers in 0..{n_terms - 1:,}")
    return csr_array((values, columns, starts.astype(np.int32)), shape=(len(n_of), n_terms))


def _lists(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Return the lengths of the lists of a column, 0 for null, and all their values."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    return np.from_dlpack(array.value_lengths().fill_null(0)), array.flatten()
