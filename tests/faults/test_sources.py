"""Files and crawls that change, vanish and come back between two commands."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.disks import Disk
from tests.faults.stores import differences
from tests.faults.world import SETTINGS, write_crawl
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms


@dataclass(frozen=True)
class Job:
    """A crawl and a store that knows it, at a path that stays the same."""

    folder: Path
    disk: Disk

    @property
    def crawl(self) -> Path:
        return self.folder / "crawl"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def run(self, stage: str, *words: str | Path) -> int:
        """A command on the store; its exit code."""
        return self.disk.run([stage, *map(str, words), "--out", str(self.out)], self.folder)

    def rows(self, kind: str) -> dict[str, dict[str, object]]:
        """All rows of an artifact such as `features/visual`, by video."""
        (folder,) = (path for path in self.out.glob(f"{kind}-*") if path.is_dir())
        parts = [row for part in folder.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
        return {str(row["video_id"]): row for row in parts}

    def outcome(self, video_id: str) -> object:
        """The kind of a video's failure; None without one."""
        return self.rows("failures/media").get(video_id, {}).get("kind")


@pytest.fixture(scope="module")
def prepared(disk: Disk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `job`; `pristine`, where everything is fitted; and `after`, how an undisturbed job ends."""
    folder = tmp_path_factory.mktemp("sources")
    job = Job(folder / "job", disk)
    job.folder.mkdir()
    write_crawl(job.crawl, 10, first=0)
    sets = [f"--set={assignment}" for assignment in [*SETTINGS, "split.min_venue_videos=4"]]
    assert job.run("ingest", job.crawl, *sets) == 0, disk.said
    assert job.run("fit") == 0, disk.said
    shutil.copytree(job.folder, folder / "pristine", symlinks=True)
    assert job.run("complete") == 0, disk.said
    shutil.move(job.folder, folder / "after")
    return folder


@pytest.fixture
def job(prepared: Path, disk: Disk) -> Iterator[Job]:
    shutil.copytree(prepared / "pristine", prepared / "job", symlinks=True)
    yield Job(prepared / "job", disk)
    shutil.rmtree(prepared / "job")


def test_a_file_that_was_replaced_after_ingest_has_no_vector(job: Job, prepared: Path, disk: Disk) -> None:
    clip = job.crawl / "3.mp4"
    kept = clip.rename(job.folder / "kept.mp4")
    shutil.copyfile(job.crawl / "4.mp4", clip)
    assert job.run("extract") == 0, disk.said
    assert job.outcome("3") is not None
    for modality in ("visual", "acoustic"):
        assert job.rows(f"features/{modality}")["3"]["vector"] is None
        assert job.rows(f"features/{modality}")["4"]["vector"] is not None or modality == "acoustic"
    assert job.run("ingest", job.crawl) == 0  # its bytes are known now
    assert job.run("extract") == 0, disk.said
    assert [row["vector"] for row in vectors_of(job.out, "visual", "3")] != [None]
    kept.rename(clip)


def vectors_of(out: Path, modality: str, video_id: str) -> list[dict[str, object]]:
    """The rows of a video that the present catalogue's parts hold."""
    folders = [path for path in (out / "features").glob(f"{modality}-*") if path.is_dir()]
    rows = [row for f in folders for part in f.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
    return [row for row in rows if row["video_id"] == video_id and row["vector"] is not None]


@pytest.mark.long
def test_a_replaced_file_that_returns_is_as_if_nothing_had_been(job: Job, prepared: Path, disk: Disk) -> None:
    clip = job.crawl / "3.mp4"
    kept = clip.rename(job.folder / "kept.mp4")
    shutil.copyfile(job.crawl / "4.mp4", clip)
    assert job.run("extract") == 0, disk.said
    kept.replace(clip)
    assert job.run("complete") == 0, disk.said
    assert differences(job.folder, prepared / "after") == []


@pytest.mark.long
def test_a_file_that_was_only_touched_is_the_same(job: Job, prepared: Path, disk: Disk) -> None:
    os.utime(job.crawl / "3.mp4", (1, 1))
    assert job.run("complete") == 0, disk.said
    assert differences(job.folder, prepared / "after") == []


def test_a_file_that_vanished_is_tried_again_when_it_is_back(job: Job, prepared: Path, disk: Disk) -> None:
    clip = job.crawl / "3.mp4"
    away = clip.rename(job.folder / "away.mp4")
    assert job.run("complete") == 0, disk.said
    assert job.outcome("3") == "missing"
    away.rename(clip)
    assert job.run("complete") == 0, disk.said
    found = differences(job.folder, prepared / "after")
    assert {difference.split("/")[1] for difference in found} <= {"states", "completed", "metadata"}
    assert all(difference.startswith("extra") for difference in found)  # what was fitted without it has its own address


@pytest.mark.long
def test_a_missing_file_is_tried_three_times_and_then_by_retry_only(job: Job, prepared: Path, disk: Disk) -> None:
    clip = job.crawl / "3.mp4"
    away = clip.rename(job.folder / "away.mp4")
    for _ in range(3):
        assert job.run("extract") == 0, disk.said
    away.rename(clip)
    assert job.run("extract") == 0, disk.said
    assert job.outcome("3") == "missing"
    assert job.run("retry", "--kind", "missing") == 0, disk.said
    assert job.run("complete") == 0, disk.said
    assert differences(job.folder, prepared / "after") == []


@pytest.mark.parametrize("stage", ["fit", "extract", "complete"] if LONG else ["extract"])
def test_a_crawl_that_is_gone_is_an_error_of_the_command(stage: str, job: Job, prepared: Path, disk: Disk) -> None:
    if stage == "fit":
        shutil.rmtree(job.out / "states")
    away = job.crawl.rename(job.folder / "away")
    assert job.run(stage) == 2, disk.said
    assert str(job.crawl) in disk.said
    assert "Traceback" not in disk.said
    assert not (job.out / "failures").exists() or job.rows("failures/media") == {}
    away.rename(job.crawl)
    assert job.run("complete") == 0, disk.said
    assert differences(job.folder, prepared / "after") == []


def test_a_crawl_whose_mount_is_gone_loses_nothing_for_good(job: Job, prepared: Path, disk: Disk) -> None:
    """What is left of it is an empty folder."""
    away = job.crawl.rename(job.folder / "away")
    job.crawl.mkdir()
    assert job.run("extract") in (2, 3), disk.said
    assert "Traceback" not in disk.said
    job.crawl.rmdir()
    away.rename(job.crawl)
    assert job.run("complete") == 0, disk.said
    assert differences(job.folder, prepared / "after") == []
