"""Watched folders: what counts as a crawl, and when it last changed."""

import os
import time
from pathlib import Path

import pytest

from nmcl.pipeline.crawl.watch import watched_crawls


def test_folders_with_files_are_crawls(tmp_path: Path) -> None:
    for name in ("b", "a", "empty", ".hidden"):
        (tmp_path / name / "videos").mkdir(parents=True)
    for name in ("a/videos/1.mp4", "b/manifest.csv", ".hidden/1.mp4", "loose.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert [crawl.folder for crawl in watched_crawls(tmp_path)] == [tmp_path / "a", tmp_path / "b"]
    assert watched_crawls(tmp_path / "absent") == []


@pytest.mark.parametrize("change", ["added", "grown", "renamed", "removed"])
def test_every_change_counts_whatever_time_the_file_says_it_has(change: str, tmp_path: Path) -> None:
    videos = tmp_path / "crawl" / "videos"
    videos.mkdir(parents=True)
    for name in ("1.mp4", "2.mp4"):
        (videos / name).write_bytes(b"1")
    (before,) = watched_crawls(tmp_path)
    time.sleep(0.02)  # clocks of file systems tick every few milliseconds
    match change:
        case "added":
            (videos / "3.mp4").write_bytes(b"3")
            os.utime(videos / "3.mp4", (0, 0))
        case "grown":
            with (videos / "1.mp4").open("ab") as file:
                file.write(b"1")
        case "renamed":
            (videos / "1.mp4").rename(videos / "3.mp4")
        case "removed":
            (videos / "1.mp4").unlink()
    (after,) = watched_crawls(tmp_path)
    assert after.changed > before.changed
    assert 0 <= after.quiet_s < 60
