import json
from pathlib import Path

import pytest

from nmcl.pipeline.crawl.manifest import ColumnSettings, Listing, read_crawl
from nmcl.pipeline.records import Entry

AUTO = ColumnSettings()


def crawl(folder: Path, **infos: object) -> Path:
    """A crawl of one video for each sidecar; a sidecar given as bytes is written as it is."""
    for name, info in infos.items():
        (folder / f"{name}.mp4").write_bytes(b"picture and sound")
        content = info if isinstance(info, bytes) else json.dumps(info).encode()
        (folder / f"{name}.info.json").write_bytes(content)
    return folder


def only(listing: Listing) -> Entry:
    assert len(listing.entries) == 1
    return listing.entries[0]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"description": " Hello ", "title": "Title"}, "Hello"),
        ({"description": "", "title": "Title"}, "Title"),
        ({"description": None, "title": ""}, None),
        (
            {"description": "At #Sea.", "tags": ["sea", "New York", "#fun", "", None, "FUN"]},
            "At #Sea. #NewYork #fun",
        ),
        ({"tags": ["a", "b"]}, "#a #b"),
        ({"tags": "a"}, None),
        ({"description": "seaside", "tags": ["sea"]}, "seaside #sea"),
        ({"description": "nul \0 and \ud800"}, "nul   and ?"),
        ({"description": ["a list"], "title": {"no": "name"}}, None),
    ],
)
def test_description(tmp_path: Path, info: dict[str, object], expected: str | None) -> None:
    assert only(read_crawl(crawl(tmp_path, a=info), AUTO)).description == expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"location": "Park"}, "Park"),
        ({"location": {"name": "Sea", "id": 3}}, "Sea"),
        ({"venue": "Gym", "location": "Bonn"}, "Gym"),
        ({}, None),
    ],
)
def test_venue(tmp_path: Path, info: dict[str, object], expected: str | None) -> None:
    assert only(read_crawl(crawl(tmp_path, a=info), AUTO)).venue == expected


def test_the_sidecar_names_the_video(tmp_path: Path) -> None:
    crawl(tmp_path, a={"id": "x1"}, b={"id": 12}, c={"id": "twin"}, d={"id": "twin"})
    (tmp_path / "bare.mp4").write_bytes(b"")
    listing = read_crawl(tmp_path, AUTO)
    assert [e.video_id for e in listing.entries] == ["x1", "12", "bare", "c", "d"]
    assert "listed 5 video files, 4 of them with an .info.json sidecar" in listing.notes[0]
    assert "2 videos share their id with another" in listing.notes[1]


@pytest.mark.parametrize("broken", [b"{", b"[]", b"\xff\xfe\xfa", b"[" * 100_000, b""])
def test_a_broken_sidecar_is_noted(tmp_path: Path, broken: bytes) -> None:
    listing = read_crawl(crawl(tmp_path, a=broken), AUTO)
    assert only(listing) == Entry("a", "a.mp4")
    assert any("1 sidecar is not valid JSON and skipped: 'a.info.json'" in n for n in listing.notes)


def test_sidecars_without_a_video_are_noted(tmp_path: Path) -> None:
    crawl(tmp_path, a={})
    (tmp_path / "failed.info.json").write_text("{}")
    assert "1 sidecar has no video beside it: 'failed.info.json'." in read_crawl(tmp_path, AUTO).notes


def test_a_sidecar_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"description": "secret"}')
    folder = tmp_path / "crawl"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    (folder / "a.info.json").symlink_to(tmp_path / "secret.json")
    assert only(read_crawl(folder, AUTO)).description is None


def test_a_description_file_serves_where_nothing_else_does(tmp_path: Path) -> None:
    crawl(tmp_path, a={"title": "Title"}, b={})
    for name in "ab":
        (tmp_path / f"{name}.description").write_text("From the file\n")
    assert [e.description for e in read_crawl(tmp_path, AUTO).entries] == ["Title", "From the file"]


def test_a_description_file_in_another_encoding(tmp_path: Path) -> None:
    crawl(tmp_path, a={}, b={}, c={}, d={"title": "fine"})
    for name, encoding in (("a", "utf-16"), ("b", "latin-1"), ("c", "utf-8")):
        (tmp_path / f"{name}.description").write_bytes("häst 馬".encode(encoding, "ignore"))
    (tmp_path / "e.mp4").write_bytes(b"picture and sound")
    (tmp_path / "e.info.json").write_bytes('{"title": "häst"}'.encode("latin-1"))
    listing = read_crawl(tmp_path, AUTO)
    found = {e.video_id: e.description for e in listing.entries}
    assert found == {"a": "häst 馬", "b": "h\ufffdst", "c": "häst 馬", "d": "fine", "e": "h\ufffdst"}
    assert any("2 videos have a sidecar with bytes that are not UTF-8, read as" in note for note in listing.notes)


class TestWithManifest:
    def test_fills_only_what_has_no_column(self, tmp_path: Path) -> None:
        crawl(tmp_path, a={"id": "other", "description": "beside", "venue": "Sea"})
        (tmp_path / "manifest.csv").write_text("path,venue\na.mp4,\n")
        assert only(read_crawl(tmp_path, AUTO)) == Entry("a", "a.mp4", "beside", None)
        (tmp_path / "manifest.csv").write_text("path,description\na.mp4,\n")
        assert only(read_crawl(tmp_path, AUTO)) == Entry("a", "a.mp4", None, "Sea")

    def test_is_not_needed_where_all_columns_are_there(self, tmp_path: Path) -> None:
        crawl(tmp_path, a=b"broken")
        (tmp_path / "manifest.csv").write_text("path,text,venue\na.mp4,x,y\n")
        listing = read_crawl(tmp_path, AUTO)
        assert only(listing) == Entry("a", "a.mp4", "x", "y")
        assert len(listing.notes) == 1
