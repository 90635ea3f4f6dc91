"""Any manifest and any sidecar: reading raises nothing but CrawlError, and every row is accounted for.

A few examples in `make test`, thousands in `make test-long`.
"""

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmcl.pipeline.crawl.manifest import ColumnSettings, Listing, read_crawl
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.records import SPLITS
from tests.forms import LONG, in_both_forms

AUTO = ColumnSettings()
N_EXAMPLES = 2_000 if LONG else 60
pytestmark = in_both_forms
fuzzed = settings(
    max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

HEADERS = ["path", "id", "text", "captions", "title", "venue", "label", "split", "other", "video"]
SAID = [
    "a.mp4", "./a.mp4", "A.MP4", "in/b.mp4", "b", "c.m4a", "gone.mp4", "../x", "/x", "", " ", "nan", "NULL", "train",
    "7", "sea", "sea|park", "#a #b", "&amp;", "&#0;", "a\0b", '"', ",", "\n", "\r", "\ufeff", "é", "e\u0301", "[x]",
]  # fmt: skip
texts = st.sampled_from(SAID) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


def crawl_in(name: str) -> Path:
    folder = Path(name)
    (folder / "in").mkdir()
    for path in ("a.mp4", "in/b.mp4", "c.m4a", "d.gif"):
        (folder / path).write_bytes(b"bytes")
    return folder


def read(folder: Path) -> Listing | None:
    """What is listed, None if the crawl is refused. Whatever is listed can be stored and printed."""
    try:
        listing = read_crawl(folder, AUTO)
    except CrawlError as error:
        str(error).encode()
        return None
    assert listing.entries
    assert len({entry.video_id for entry in listing.entries}) == len(listing.entries)
    for entry in listing.entries:
        assert entry.path
        assert (folder / entry.path).resolve().is_relative_to(folder.resolve())
        assert entry.split in (None, *SPLITS)
        for text in (entry.video_id, entry.path, entry.description, entry.venue):
            assert text is None or (text.encode() and "\0" not in text)
    for row in listing.rejected:
        assert row.problem
        for text in (row.problem, row.video_id, row.path):
            (text or "").encode()
    "\n".join(listing.notes).encode()
    return listing


def check_counts(listing: Listing | None, n_rows: int) -> None:
    if listing is not None:
        assert len(listing.entries) + listing.n_joined + len(listing.rejected) == n_rows


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@fuzzed
@given(
    content=st.binary(max_size=200), header=st.sampled_from([b"", b"path,venue\n", b"id\ttext\n", b"\xff\xfe", b"PAR1"])
)
def test_any_bytes(suffix: str, content: bytes, header: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        (folder / f"manifest.{suffix}").write_bytes(header + content)
        read(folder)


@fuzzed
@given(
    header=st.lists(st.sampled_from(HEADERS), min_size=1, max_size=5, unique=True),
    rows=st.lists(st.lists(texts, min_size=1, max_size=6), max_size=12),
    tabs=st.booleans(),
)
def test_any_rows_of_text(header: list[str], rows: list[list[str]], tabs: bool) -> None:
    """Well-formed quotes; rows of any length."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    writer.writerows(rows)
    n_rows = sum(any(cell.strip() for cell in row) for row in rows)
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        (folder / f"manifest.{'tsv' if tabs else 'csv'}").write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
        check_counts(read(folder), n_rows)


@fuzzed
@given(lines=st.lists(st.text(st.sampled_from('",ab\n\r\t.mp4')), max_size=30))
def test_any_quotes(lines: list[str]) -> None:
    """No row that could be read is lost to a quote before it, whatever the quotes."""
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        content = "path,text\n" + "\n".join(lines) + "\na.mp4,last\n"
        (folder / "manifest.csv").write_text(content, newline="")
        listing = read(folder)
        if listing is not None:
            n_lines = len(content.splitlines())
            assert 1 <= len(listing.entries) + listing.n_joined + len(listing.rejected) < n_lines


@fuzzed
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(HEADERS), anything, min_size=1, max_size=6) | anything, max_size=8)
)
def test_any_json_lines(rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
        check_counts(read(folder), len(rows))


TYPES = st.recursive(
    st.sampled_from(
        [
            pa.null(), pa.bool_(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(),
            pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
            pa.binary(3), pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.timestamp("s"),
            pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("us", "No/Where"),
            pa.duration("ns"), pa.duration("s"), pa.month_day_nano_interval(), pa.decimal128(20, 3),
            pa.decimal256(60, 0), pa.uuid(), pa.json_(pa.string()), pa.bool8(), pa.opaque(pa.int8(), "t", "v"),
            pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int32(), pa.int64()),
            pa.run_end_encoded(pa.int32(), pa.string()),
        ]
    ),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(lambda of: pa.list_(of, 2)),
        inner.map(pa.list_view),
        inner.map(lambda of: pa.struct({"x": of})),
        inner.map(lambda of: pa.map_(pa.string(), of)),
    ),
    max_leaves=3,
)  # fmt: skip
FROM_NUMBERS = st.lists(st.none() | st.integers(0, 100), min_size=3, max_size=3)


def array_of(type_: pa.DataType, numbers: list[int | None], words: list[str | None]) -> pa.Array:
    """Some array of a type, from numbers or words, if one can be made; else nulls."""
    for values in (words, numbers, [None if n is None else str(n) for n in numbers]):
        for kind in (pa.string(), pa.int64()):
            try:
                return pa.array(values, kind).cast(type_)
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                continue
    try:
        if pa.types.is_nested(type_) and not pa.types.is_struct(type_) and not pa.types.is_map(type_):
            return pa.array([[w, w] for w in words], type_)
        return pa.array([{"x": w} for w in words], type_)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.nulls(3, type_)


@fuzzed
@given(
    types=st.dictionaries(st.sampled_from(HEADERS[1:]), TYPES, min_size=1, max_size=4),
    path_type=st.just(pa.string()) | TYPES,
    numbers=FROM_NUMBERS,
    words=st.lists(st.none() | st.sampled_from([w for w in SAID if "\0" not in w]), min_size=3, max_size=3),
)
def test_any_arrow_types(
    types: dict[str, pa.DataType], path_type: pa.DataType, numbers: list[int | None], words: list[str | None]
) -> None:
    columns = {"path": array_of(path_type, [1, 2, 3], ["a.mp4", "in/b.mp4", "gone.mp4"])}
    columns |= {name: array_of(type_, numbers, words) for name, type_ in types.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        try:
            pq.write_table(pa.table(columns), folder / "manifest.parquet")
        except (pa.ArrowException, ValueError):  # not every type can be written
            return
        check_counts(read(folder), 3)


@fuzzed
@given(
    info=st.dictionaries(
        st.sampled_from(["id", "description", "title", "tags", "venue", "location", "ext", "x"]), anything, max_size=6
    )
    | anything,
)
def test_any_sidecar(info: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        for video in ("a", "c", "d"):
            (folder / f"{video}.info.json").write_text(json.dumps(info))
        assert read(folder) is not None


@fuzzed
@given(content=st.binary(max_size=100) | st.text(st.sampled_from('{}[]":,\\0ud8 né"id'), max_size=60).map(str.encode))
def test_any_bytes_as_sidecar(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = crawl_in(name)
        (folder / "a.info.json").write_bytes(content)
        (folder / "a.description").write_bytes(content)
        assert read(folder) is not None
