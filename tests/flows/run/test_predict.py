"""The table that `nmcl predict` writes: whole, and harmless in a spreadsheet."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from nmcl.flows.run.predict import write_table
from nmcl.pipeline.errors import StoreError
from tests.hostile import STORABLE

TABLE = pa.table(
    {
        "video_id": pa.array(STORABLE, pa.string()),
        "venue_1": pa.array([None, *STORABLE[1:]], pa.string()),
        "probability_1": pa.array([-0.5] * len(STORABLE), pa.float32()),
    }
)


def test_cells_are_texts_and_are_read_back(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / "a.csv")
    convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    read = pyarrow.csv.read_csv(tmp_path / "a.csv", parse_options=parse, convert_options=convert)
    cells = read.column("video_id").to_pylist()
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert [cell.removeprefix("'") for cell in cells] == list(STORABLE)
    assert read.column("venue_1").to_pylist()[0] is None
    assert set(read.column("probability_1").to_pylist()) == {-0.5}


def test_parquet_keeps_all_as_it_is(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(TABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/a\.csv cannot be written"):
        write_table(TABLE, tmp_path / "file" / "a.csv")
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(StoreError, match=r"taken\.csv cannot be written"):
        write_table(TABLE, tmp_path / "taken.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.csv"]
