"""Files of descriptions beside a feature file."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmcl.pipeline.crawl.descriptions import read_descriptions
from nmcl.pipeline.errors import CrawlError


def written(folder: Path, text: str, name: str = "texts.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_row_has_a_text_an_id_a_label_and_a_split(tmp_path: Path) -> None:
    path = written(tmp_path, 'video_id,description,venue,split\na,"sun, sea",Beach,train\nb,,Slope,val\nc,n/a,,\n')
    rows = read_descriptions(path)
    assert rows.texts == ["sun, sea", "", ""]
    assert rows.ids == ["a", "b", "c"]
    assert rows.labels == ["Beach", "Slope", ""]
    assert rows.splits == ["train", "validation", ""]


def test_one_column_is_enough_in_any_format(tmp_path: Path) -> None:
    texts = ["first", "zweites &amp; Wort", "third"]
    pq.write_table(pa.table({"caption": texts}), tmp_path / "t.parquet")
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    for path in (
        tmp_path / "t.parquet",
        written(tmp_path, lines, "t.jsonl"),
        written(tmp_path, "\n".join(["description", *texts]), "t.tsv"),
    ):
        rows = read_descriptions(path)
        assert rows.texts == ["first", "zweites & Wort", "third"]
        assert (rows.ids, rows.labels, rows.splits) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "a", "t.txt is not a file of descriptions; expected one of .csv"),
        ("t.csv", "video_id,label\na,b\n", "t.csv has no column of descriptions; name it `description`.*'label'"),
        ("t.csv", "description,label\nx,y\nx\n", "t.csv, line 3: 1 cells; the header has 2"),
        ("t.csv", "description,split\nx,train\ny,other\n", "line 3: the split is 'other'; expected train"),
        ("t.csv", "", "t.csv is empty"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(CrawlError, match=message):
        read_descriptions(written(tmp_path, text, name))


def test_an_absent_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CrawlError, match=r"absent\.csv cannot be read: No such file"):
        read_descriptions(tmp_path / "absent.csv")
