"""Arrow tables with one row per video, and Parquet files that are written block by block."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nmcl.pipeline.export.record import Export
from nmcl.pipeline.optional import require
from nmcl.pipeline.storage.tables import SEQUENCE, SEQUENCE_TIMES, from_sequences, from_vectors

ROWS = "rows.parquet"
"""File of folder formats with ids, splits, labels and masks, in the order of the matrices' rows."""
TEXT = ("video_id", "crawl", "path", "sha256", "split", "label", "description")
"""Columns of text."""


def schema_of(export: Export) -> pa.Schema:
    """Return the schema of the tables of `blocks_of`."""
    vectors = [pa.field(feature.name, pa.list_(pa.float32(), feature.dim)) for feature in export.features]
    return pa.schema([*(pa.field(name, pa.string()) for name in TEXT), *vectors, *_masks(export)])


def _masks(export: Export) -> list[pa.Field]:
    return [pa.field(observed_name(feature.name), pa.bool_()) for feature in export.features]


def observed_name(feature: str) -> str:
    """Return the column of a feature set's mask."""
    return f"{feature}_observed"


def text_of(export: Export, rows: slice) -> dict[str, list[str | None]]:
    """Return the columns of text of some rows."""
    columns = (
        export.ids,
        export.crawls,
        export.paths,
        export.sha256,
        export.splits,
        export.labels,
        export.descriptions,
    )
    return {name: list(column[rows]) for name, column in zip(TEXT, columns, strict=True)}


def blocks_of(export: Export) -> Iterator[tuple[slice, pa.Table]]:
    """Yield the rows block by block: text, vectors (null where NaN), masks."""
    schema, start = schema_of(export), 0
    for blocks in zip(*(feature.blocks() for feature in export.features), strict=True):
        rows = slice(start, start + len(blocks[0]))
        masks = [pa.array(feature.observed[rows]) for feature in export.features]
        text = [pa.array(column, pa.string()) for column in text_of(export, rows).values()]
        yield rows, pa.Table.from_arrays([*text, *(from_vectors(block) for block in blocks), *masks], schema=schema)
        start = rows.stop


def sequence_columns(export: Export) -> dict[str, pa.ChunkedArray]:
    """Return the columns `SET_sequence` and `SET_sequence_s`, its times, of the feature sets that have sequences."""
    columns = {}
    for feature in export.features:
        if feature.sequences is not None:
            vectors, times = [], []
            for block in feature.sequences():
                vectors.append(from_sequences([s and s.vectors for s in block], feature.dim))
                times.append(pa.array([s and s.times_s for s in block], pa.list_(pa.float32())))
            columns[f"{feature.name}_{SEQUENCE}"] = pa.chunked_array(vectors)
            columns[f"{feature.name}_{SEQUENCE_TIMES}"] = pa.chunked_array(times)
    return columns


def to_pandas(table: pa.Table) -> Any:
    """Return a table as a pandas data frame; a vector is a NumPy array, and None where it is null.

    Raises:
        UserError: If pandas is not installed.
    """
    require("pandas", "pandas", "to_pandas")
    return table.to_pandas()


def parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer of one Parquet file, a context manager; each table becomes a row group."""
    return pq.ParquetWriter(path, schema, compression="zstd")


def write_rows(export: Export, folder: Path, **more: list[str]) -> None:
    """Write ids, splits, labels and masks beside matrices.

    Args:
        more: Further columns of text by name.
    """
    text = {**text_of(export, slice(None)), **more}
    arrays = [pa.array(column, pa.string()) for column in text.values()]
    masks = [pa.array(feature.observed) for feature in export.features]
    schema = pa.schema([*(pa.field(name, pa.string()) for name in text), *_masks(export)])
    with parquet_writer(folder / ROWS, schema) as file:
        file.write_table(pa.Table.from_arrays([*arrays, *masks], schema=schema))
