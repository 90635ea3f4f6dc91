"""Titles, tags and subtitles of a crawl."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.crawl.source import CrawlSource, crawl_source
from nmcl.pipeline.crawl.subtitles import SubtitleSettings
from nmcl.pipeline.crawl.texts import CrawlText, text_reader
from nmcl.pipeline.errors import CrawlError, StoreError
from nmcl.pipeline.records import FoundText

VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\n{}\n"


def read(
    folder: Path,
    what: CrawlText,
    paths: list[str],
    columns: ColumnSettings | None = None,
    languages: tuple[str, ...] = ("en", "*"),
) -> list[FoundText]:
    return read_at(crawl_source(folder), what, paths, columns, languages)


def read_at(
    source: CrawlSource,
    what: CrawlText,
    paths: list[str],
    columns: ColumnSettings | None = None,
    languages: tuple[str, ...] = ("en", "*"),
) -> list[FoundText]:
    with text_reader(source, what, columns or ColumnSettings(), SubtitleSettings(languages)) as reader:
        return reader(paths)


def texts(folder: Path, what: CrawlText, paths: list[str], columns: ColumnSettings | None = None) -> list[str | None]:
    return [found.text for found in read(folder, what, paths, columns)]


def crawl(folder: Path, *names: str, manifest: str = "") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    if manifest:
        (folder / "manifest.csv").write_text(manifest)
    return folder


def test_columns_of_a_manifest(tmp_path: Path) -> None:
    rows = "path,description,Title,hashtags\na.mp4,words,A &amp; B,one;two\nb.mp4,,nan,\na.mp4,more,Second,one;two\n"
    crawl(tmp_path, "a.mp4", "b.mp4", manifest=rows)
    assert texts(tmp_path, "title", ["b.mp4", "a.mp4"]) == [None, "A & B\nSecond"]
    assert texts(tmp_path, "tags", ["a.mp4", "b.mp4"]) == ["one;two", None]
    assert texts(tmp_path, "title", ["a.mp4"], ColumnSettings(title="description")) == ["words\nmore"]
    assert texts(tmp_path, "tags", ["a.mp4"], ColumnSettings(tags="Title")) == ["A & B, Second"]
    with pytest.raises(CrawlError, match=r"no column 'nothing', the value of columns\.tags"):
        texts(tmp_path, "tags", ["a.mp4"], ColumnSettings(tags="nothing"))


def test_a_manifest_with_a_title_alone(tmp_path: Path) -> None:
    crawl(tmp_path, "a.mp4", manifest="path,title\na.mp4,Only\n")
    assert texts(tmp_path, "title", ["a.mp4"]) == ["Only"]
    assert texts(tmp_path, "tags", ["a.mp4"]) == [None]


def test_lists_in_parquet(tmp_path: Path) -> None:
    crawl(tmp_path, "a.mp4", "b.mp4")
    table = pa.table({"path": ["a.mp4", "b.mp4"], "tags": [["new york", "food"], None]})
    pyarrow.parquet.write_table(table, tmp_path / "manifest.parquet")
    assert texts(tmp_path, "tags", ["a.mp4", "b.mp4"]) == ["new york, food", None]


def test_sidecars_where_a_manifest_has_no_such_column(tmp_path: Path) -> None:
    crawl(tmp_path, "in/a.mp4", "b.mp4", manifest="path,description\nin/a.mp4,words\nb.mp4,more\n")
    (tmp_path / "in/a.info.json").write_text(json.dumps({"title": "Of a", "tags": ["x y", "z", "x y", "null"]}))
    assert texts(tmp_path, "title", ["in/a.mp4", "b.mp4"]) == ["Of a", None]
    assert texts(tmp_path, "tags", ["in/a.mp4", "b.mp4"]) == ["x y, z", None]
    (tmp_path / "manifest.csv").unlink()
    assert texts(tmp_path, "title", ["b.mp4", "in/a.mp4"]) == [None, "Of a"]


def test_subtitles_beside_a_video(tmp_path: Path) -> None:
    videos = ["a.mp4", "b [x.y].mp4", "in/a.mp4", "c.f137.mp4", "d.mp4", "caf\u00e9.mp4"]
    crawl(tmp_path, *videos)
    for name in ("a.de", "a.en-orig", "b [x.y].en", "c.en", "cafe\u0301.en"):
        (tmp_path / f"{name}.vtt").write_text(VTT.format(f"said in {name}"))
    (tmp_path / "in" / "a.srt").write_text("1\n00:00:01,500 --> 00:00:02,000\nOne\ntwo\n")
    found = read(tmp_path, "subtitles", videos)
    assert [one.text for one in found] == [
        "said in a.en-orig", "said in b [x.y].en", "One two", "said in c.en", None, "said in caf\u00e9.en",
    ]  # fmt: skip
    assert found[2] == FoundText("One two", ((1.5, "One"), (1.5, "two")), "in/a.srt")
    assert found[4] == FoundText()
    (german,) = read(tmp_path, "subtitles", ["a.mp4"], languages=("de",))
    assert (german.text, german.file) == ("said in a.de", "a.de.vtt")


def test_a_file_that_cannot_be_read_is_a_remark_and_the_next_one_is_used(tmp_path: Path) -> None:
    crawl(tmp_path, "a.mp4", "b.mp4")
    for name in ("a", "b"):
        (tmp_path / f"{name}.en.vtt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "a.de.vtt").write_text(VTT.format("Hallo"))
    found = read(tmp_path, "subtitles", ["a.mp4", "b.mp4"])
    assert [one.text for one in found] == ["Hallo", None]
    assert found[1].remark == "b.en.vtt is not text in UTF-8 or UTF-16"


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (b"\x00\x01\x02" * 9, "contains NUL bytes"),
        (b"\xff\xd8\xff\xe0" * 9, "is not text in UTF-8 or UTF-16"),
        (VTT.format("\ud800").encode("utf-16", "surrogatepass"), "is not text in UTF-8 or UTF-16"),
        (VTT.format("x" * 4 * 2**20).encode(), "has more than 4,194,304 bytes"),
        (VTT.format("a\n" * 2**20).encode(), "has more than 20,000 lines or 500,000 characters of text"),
        (VTT.format("a b " * 2**18).encode(), "has more than 20,000 lines or 500,000 characters of text"),
    ],
    ids=["binary", "media", "surrogates", "large", "lines", "characters"],
)
@pytest.mark.parametrize("suffix", [".en.vtt", ".srt"])
def test_a_file_that_is_not_subtitles(content: bytes, remark: str, suffix: str, tmp_path: Path) -> None:
    crawl(tmp_path, "a.mp4")
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert read(tmp_path, "subtitles", ["a.mp4"]) == [FoundText(remark=f"a{suffix} {remark}")]


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link_outside(path: Path) -> None:
    outside = path.parent.parent / "outside.vtt"
    outside.write_text(VTT.format("secret"))
    path.symlink_to(f"../{outside.name}")


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_loop, a_device, a_folder, a_link_outside])
def test_what_is_no_file_is_not_listed(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = crawl(tmp_path / "clips", "a.mp4")
    make(folder / "a.en.vtt")
    assert read(folder, "subtitles", ["a.mp4"]) == [FoundText()]


@pytest.mark.parametrize("make", [a_pipe, a_socket, a_loop, a_device, a_folder])
def test_what_is_no_file_any_more_is_a_remark(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = crawl(tmp_path, "a.mp4", "a.en.vtt") / "a.en.vtt"
    with text_reader(crawl_source(tmp_path), "subtitles", ColumnSettings(), SubtitleSettings()) as reader:
        path.unlink()
        make(path)
        assert reader(["a.mp4"]) == [FoundText(remark="a.en.vtt cannot be opened")]


def test_a_disk_that_cannot_be_read_ends_the_command_in_a_sentence(tmp_path: Path) -> None:
    path = crawl(tmp_path, "a.mp4", "a.en.vtt") / "a.en.vtt"
    with text_reader(crawl_source(tmp_path), "subtitles", ColumnSettings(), SubtitleSettings()) as reader:
        path.unlink()
        path.symlink_to("/proc/self/mem")  # reading its first bytes gives EIO
        with pytest.raises(StoreError, match=r"a\.en\.vtt cannot be read: the disk reports an input/output error"):
            reader(["a.mp4"])


def test_a_crawl_on_an_object_store_is_read_as_on_a_disk(tmp_path: Path) -> None:
    folder = crawl(tmp_path / "clips", "in/a.mp4", "b.mp4", manifest="path,description\nin/a.mp4,words\nb.mp4,more\n")
    (folder / "in" / "a.en.vtt").write_text(VTT.format("said"))
    (folder / "in" / "a.info.json").write_text(json.dumps({"title": "Of a", "tags": ["x"]}))
    remote = fsspec.filesystem("memory")
    remote.put(str(folder), "/texts-of-a-crawl", recursive=True)
    try:
        for what in ("title", "tags", "subtitles"):
            found = [
                read_at(source, what, ["in/a.mp4", "b.mp4"])
                for source in (crawl_source(folder), crawl_source("memory://texts-of-a-crawl"))
            ]
            assert found[0] == found[1]
            assert found[0][0].text
    finally:
        remote.rm("/texts-of-a-crawl", recursive=True)
