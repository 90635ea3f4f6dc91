"""One Parquet file, for pandas, Polars, DuckDB and PyArrow."""

from pathlib import Path

from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.export.rows import blocks_of, parquet_writer, schema_of


def write(export: Export, path: Path) -> Written:
    """Write one row per video; each feature set is a column of vectors, null for NaN, with a column of its mask."""
    with parquet_writer(path, schema_of(export)) as file:
        for _, table in blocks_of(export):
            file.write_table(table)
    return Written({feature.name: feature.name for feature in export.features})
