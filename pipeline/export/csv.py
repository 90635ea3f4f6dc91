"""One CSV file, for spreadsheets and R."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from nmcl.pipeline.escape import csv_text
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.export.rows import observed_name, text_of


def write(export: Export, path: Path) -> Written:
    """Write one row per video with the numbers of each feature set as columns `SET_0`, `SET_1`, ...; empty for NaN.

    Text that a spreadsheet would read as a formula is preceded by an apostrophe.
    """
    tables = _tables(export)
    first = next(tables)
    with pyarrow.csv.CSVWriter(str(path), first.schema) as file:
        file.write_table(first)
        for table in tables:
            file.write_table(table)
    return Written({f"{f.columns[0]} to {f.columns[-1]}": f.name for f in export.features})


def _tables(export: Export) -> Iterator[pa.Table]:
    start = 0
    for blocks in zip(*(feature.blocks() for feature in export.features), strict=True):
        rows = slice(start, start + len(blocks[0]))
        columns: dict[str, pa.Array] = {
            name: pa.array([None if text is None else csv_text(text) for text in texts], pa.string())
            for name, texts in text_of(export, rows).items()
        }
        for feature in export.features:
            columns[observed_name(feature.name)] = pa.array(feature.observed[rows])
        for feature, block in zip(export.features, blocks, strict=True):
            for name, column in zip(feature.columns, np.ascontiguousarray(block.T), strict=True):
                columns[name] = pa.array(column, pa.float32(), from_pandas=True)  # NaN: empty
        yield pa.table(columns)
        start = rows.stop
