"""Ingest: what is known stays, what is new is added, and nothing is read twice."""

import shutil
from pathlib import Path

import pytest

from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.records import Video
from nmcl.pipeline.stages.ingest import IngestSettings, ingest
from nmcl.pipeline.storage.catalogue import load_catalogue, load_part
from nmcl.pipeline.storage.store import Store

SMALL_PARTS = IngestSettings(part_size=4)


def make_crawl(folder: Path, names: str, labels: str = "") -> Path:
    """Files whose bytes are their names; ingest decodes nothing."""
    folder.mkdir(exist_ok=True)
    rows = ["video_id,video_path,description,venue"]
    for i, name in enumerate(names):
        (folder / f"{name}.mp4").write_bytes(name.encode())
        rows.append(f"{name},{name}.mp4,words of {name},{labels[i] if i < len(labels) else ''}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def run(store: Store, folder: Path) -> list[list[Video]]:
    catalogue = ingest(store, folder, ColumnSettings(), SMALL_PARTS)
    return [load_part(store, part) for _, part in catalogue.parts()]


def snapshot(store: Store) -> dict[str, tuple[bytes, int]]:
    files = [path for path in store.local_path().rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_parts_and_identity(store: Store, tmp_path: Path) -> None:
    parts = run(store, make_crawl(tmp_path / "crawl", "abcdef", "xxy"))
    assert [[video.video_id for video in part] for part in parts] == [list("abcd"), list("ef")]
    assert parts[0][0].venue == "x"
    assert parts[1][0].venue is None
    assert len({video.sha256 for part in parts for video in part}) == 6


def test_again_does_nothing(store: Store, tmp_path: Path) -> None:
    folder = make_crawl(tmp_path / "crawl", "abcdef")
    run(store, folder)
    before = snapshot(store)
    run(store, folder)
    assert snapshot(store) == before


def test_a_growing_crawl_changes_no_part(store: Store, tmp_path: Path) -> None:
    run(store, make_crawl(tmp_path / "crawl", "bcdef"))
    before = load_catalogue(store).crawls[0].parts
    parts = run(store, make_crawl(tmp_path / "crawl", "abcdefg"))
    assert load_catalogue(store).crawls[0].parts[:2] == before
    assert [[video.video_id for video in part] for part in parts] == [list("bcde"), ["f"], ["a", "g"]]


def test_a_new_label_keeps_the_key_that_features_go_by(store: Store, tmp_path: Path) -> None:
    run(store, make_crawl(tmp_path / "crawl", "abcd"))
    (before,) = load_catalogue(store).crawls[0].parts
    parts = run(store, make_crawl(tmp_path / "crawl", "abcd", "xxyy"))
    (after,) = load_catalogue(store).crawls[0].parts
    assert after.key == before.key
    assert after.rows != before.rows
    assert [video.venue for video in parts[0]] == list("xxyy")


def test_changed_bytes_change_the_key(store: Store, tmp_path: Path) -> None:
    folder = make_crawl(tmp_path / "crawl", "abcd")
    run(store, folder)
    (before,) = load_catalogue(store).crawls[0].parts
    (folder / "a.mp4").write_bytes(b"another take")
    run(store, folder)
    assert load_catalogue(store).crawls[0].parts[0].key != before.key


def test_reuploads_and_missing_files(store: Store, tmp_path: Path) -> None:
    folder = make_crawl(tmp_path / "crawl", "abc")
    shutil.copy(folder / "a.mp4", folder / "c.mp4")
    (folder / "b.mp4").unlink()
    ((a, b, c),) = run(store, folder)
    assert c.duplicate_of == a.video_id
    assert a.duplicate_of is None
    assert (b.sha256, b.n_bytes, b.duplicate_of) == ("", 0, None)


def test_several_crawls_in_one_store(store: Store, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    run(store, make_crawl(tmp_path / "crawl", "ab"))
    parts = run(store, make_crawl(tmp_path / "other" / "crawl", "cd"))
    assert len(parts) == 2
    names = [crawl.name for crawl in load_catalogue(store).crawls]
    assert len(set(names)) == 2


def test_output_inside_the_crawl_is_refused(tmp_path: Path) -> None:
    folder = make_crawl(tmp_path / "crawl", "ab")
    with pytest.raises(CrawlError, match="is inside the crawl"):
        ingest(Store.create(folder / "out"), folder, ColumnSettings(), SMALL_PARTS)
