"""A preview says what an ingest of the same crawl then finds, and writes nothing."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from nmcl.pipeline.crawl.manifest import ColumnSettings
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.stages.ingest import IngestSettings, ingest
from nmcl.pipeline.stages.preview import Preview, preview
from nmcl.pipeline.stages.splits import SplitSettings, assign
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here
from tests.media import shades, tone, write_video

SECONDS = 2.0
BEACHES, SLOPES = 7, 3


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of 2 s, every third without sound; a copy, a missing file, a damaged one, a row outside the crawl."""
    folder = tmp_path_factory.mktemp("crawl") / "clips"
    folder.mkdir()
    rows = [["clip", "caption", "place"]]
    for i in range(BEACHES + SLOPES):
        sound = tone(300 + 10 * i, SECONDS) if i % 3 else None
        write_video(folder / f"{i}.mp4", shades([20 + 10 * i], int(10 * SECONDS)), sound=sound)
        rows.append([f"{i}.mp4", "words" if i % 2 else "", "beach" if i < BEACHES else "slope"])
    shutil.copy(folder / "1.mp4", folder / "copy.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    rows += [["copy.mp4", "", "beach"], ["gone.mp4", "", "slope"], ["broken.mp4", "", ""], ["/etc/passwd", "", "x"]]
    (folder / "1.en.vtt").write_text("WEBVTT\n")
    (folder / "1.info.json").write_text(json.dumps({"id": "1"}))
    with (folder / "videos.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def found(crawl: Path) -> Preview:
    before = everything(crawl.parent)
    result = preview(str(crawl), ColumnSettings(), IngestSettings(), SplitSettings(), MediaSettings(workers=1))
    assert everything(crawl.parent) == before
    return result


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_what_the_crawl_holds(found: Preview, crawl: Path) -> None:
    with (crawl / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:-1]
    assert found.columns == {"path": "clip", "text": "caption", "label": "place"}
    assert found.videos == len(rows)
    assert found.labels == Counter(row["place"] for row in rows if row["place"])
    assert found.described == sum(bool(row["caption"]) for row in rows)
    assert (found.missing, found.duplicates) == (1, 1)
    assert (found.sidecars, found.subtitles) == (1, 1)
    assert found.n_bytes == sum(path.stat().st_size for path in crawl.glob("*.mp4"))
    [rejected] = found.rejected
    assert (rejected.line, rejected.path, found.is_refused) == (len(rows) + 2, "/etc/passwd", False)


def test_the_sample_is_decoded(found: Preview) -> None:
    n = BEACHES + SLOPES
    assert found.sample.videos == n + 2  # with the copy and the damaged one, without the missing one
    assert found.sample.failed == {"unreadable": 1}
    assert found.sample.with_picture == n + 1
    assert found.sample.with_sound == sum(i % 3 != 0 for i in range(n)) + 1
    assert found.sample.mean_seconds == pytest.approx(SECONDS, abs=0.15)


def test_an_ingest_then_keeps_as_many(found: Preview, crawl: Path, tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "out"))
    catalogue = ingest(store, crawl, ColumnSettings(), IngestSettings())
    videos = catalogue.videos(store)
    assert found.videos == len(videos)
    assert found.duplicates == sum(video.duplicate_of is not None for video in videos)
    for kept in found.kept:
        splits = assign(videos, SplitSettings(min_venue_videos=kept.min_venue_videos))
        assert (kept.classes, kept.splits) == (len(splits.classes), splits.counts)
    assert [(kept.min_venue_videos, kept.classes) for kept in found.kept] == [
        (1, 2), (2, 2), (5, 1), (10, 0), (20, 0), (50, 0),
    ]  # fmt: skip
    assert found.kept[0].videos == BEACHES + SLOPES + 1


def test_the_command_makes_no_store(
    crawl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ("ingest", crawl, "--dry-run", "--out", out)
    code, said, _ = nmcl_here(*command, "--json", capsys=capsys, monkeypatch=monkeypatch)
    tree = json.loads(said)
    assert (code, said.isascii(), tree["labels"]) == (0, True, {"beach": BEACHES + 1, "slope": SLOPES + 1})
    assert not out.exists()
    code, said, _ = nmcl_here(*command, "--text-col", "", capsys=capsys, monkeypatch=monkeypatch)
    assert (code, out.exists()) == (0, False)
    assert "Nothing was written." in said
    assert "Rejected, line 15: the path '/etc/passwd' is absolute" in said
    code, _, error = nmcl_here("ingest", crawl, capsys=capsys, monkeypatch=monkeypatch)
    assert (code, "--out is missing" in error) == (2, True)


def test_a_crawl_without_labels_shows_what_to_do(
    crawl: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, _ = nmcl_here("ingest", crawl, "--dry-run", "--label-col", "", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    assert "`nmcl extract` and `nmcl export`" in said


def test_too_many_rejected_rows_are_listed_and_not_raised(crawl: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(crawl, tmp_path / "clips")
    with (folder / "videos.csv").open("a", newline="") as file:
        csv.writer(file).writerows([[f"/x/{i}.mp4", "", ""] for i in range(30)])
    arguments = (ColumnSettings(), IngestSettings(), SplitSettings(), MediaSettings(workers=1))
    found = preview(str(folder), *arguments, n_sample=0)
    assert (len(found.rejected), found.is_refused, found.sample.videos) == (31, True, 0)
    with pytest.raises(CrawlError, match="31 rows that cannot be used"):
        ingest(Store.create(str(tmp_path / "out")), folder, ColumnSettings(), IngestSettings())
