"""Arrow tables in Parquet. The only door to pyarrow besides manifests.

Equal tables give equal bytes: no time, path or host enters a file.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.records import Video

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
    """A table as the bytes of one Parquet file."""
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def decode(data: bytes, name: str) -> pa.Table:
    """The table in the bytes of a Parquet file. Raises StoreError, naming the file, where they are not one."""
    try:
        return pq.read_table(BytesIO(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(f"{name} is damaged ({error}). Delete it and run the command again.") from error


def from_videos(videos: Sequence[Video]) -> pa.Table:
    """Rows of the catalogue as a table of VIDEO_SCHEMA."""
    return pa.Table.from_pylist([asdict(video) for video in videos], schema=VIDEO_SCHEMA)


def to_videos(table: pa.Table) -> list[Video]:
    """Rows of the catalogue out of a table of VIDEO_SCHEMA."""
    names = [field.name for field in fields(Video)]
    columns = [table.column(name).to_pylist() for name in names]
    return [Video(*row) for row in zip(*columns, strict=True)]


def from_vectors(vectors: np.ndarray) -> pa.Array:
    """Vectors as a column of fixed-size lists.

    Args:
        vectors: shape (N, D), float32; a row of NaN becomes null.
    """
    present = ~np.isnan(vectors).any(axis=1)
    values = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, vectors.shape[1], mask=pa.array(~present))


def to_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """The inverse of `from_vectors`: shape (N, D), float32, NaN rows where null."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    dim = array.type.list_size
    vectors = np.array(array.values.to_numpy(zero_copy_only=False), dtype=np.float32)
    vectors = vectors[array.offset * dim : (array.offset + len(array)) * dim].reshape(len(array), dim)
    vectors[np.asarray(array.is_null())] = np.nan
    return vectors
