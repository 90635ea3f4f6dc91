"""The bench of extraction on a few real files: the plain loop makes the same vectors, and the figures are sound."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from nmcl.extractors.visual import VisualSettings
from nmcl.flows.bench.extract import Size, bench_extract
from nmcl.flows.bench.material import make_crawl
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.pipeline.bench.decoding import every_frame, needed_only
from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.crawl.manifest import read_crawl
from nmcl.pipeline.errors import CrawlError
from tests.media import shades, tone, write_video

LITE = FeatureChoice("efficientnet_lite0", VisualSettings(key_frames=3))


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crawl")
    for i in range(3):
        sound = tone(300 + 200 * i, 1.0) if i else None
        write_video(folder / f"clip{i}.mp4", shades([20, 60 * i + 80, 10], 5), sound=sound)
        (folder / f"clip{i}.info.json").write_text(f'{{"id": "clip{i}", "description": "beach number {i}"}}')
    return folder


def test_figures_and_agreement(crawl: Path) -> None:
    result = bench_extract(crawl, Size(videos=4, repeats=1, visual=LITE))
    assert {"to_floor", "vs_sequential"} == result.ratios.keys()
    assert all(math.isfinite(value) and value > 0 for value in [*result.figures.values(), *result.ratios.values()])
    assert result.figures["floor_key_frames"] == result.figures["key_frames"] == 12
    assert result.figures["visual_least_cosine"] > 0.99999
    assert "hard links" in result.notes[0]


def test_a_modality_that_no_video_has(tmp_path: Path) -> None:
    for i in range(2):
        write_video(tmp_path / f"clip{i}.mp4", shades([20, 60 * i + 80], 5), sound=tone(300, 1.0))
    figures = bench_extract(tmp_path, Size(videos=2, repeats=1, visual=LITE)).figures
    assert "acoustic_least_cosine" in figures
    assert "textual_least_cosine" not in figures


def test_nothing_is_learned_of_sound_where_there_is_none(tmp_path: Path) -> None:
    for i in range(2):
        write_video(tmp_path / f"clip{i}.mp4", shades([20, 60 * i + 80], 5))
        (tmp_path / f"clip{i}.info.json").write_text(f'{{"id": "clip{i}", "description": "beach number {i}"}}')
    figures = bench_extract(tmp_path, Size(videos=2, repeats=1, visual=LITE)).figures
    assert "acoustic_least_cosine" not in figures
    assert figures["floor_network_s"] > 0


def test_the_least_decoding_gives_the_same_pictures(crawl: Path) -> None:
    frames = list(every_frame(crawl / "clip1.mp4"))
    chosen = [frames[i] for i in (0, 6, 11)]
    pictures, sound = needed_only(crawl / "clip1.mp4", [frame.time_s for frame in chosen])
    for picture, frame in zip(pictures, chosen, strict=True):
        assert np.abs(picture.astype(int) - frame.picture()).mean() < 2
    assert 0.9 < len(sound) / 22_050 < 1.1


def test_a_crawl_of_more_videos_than_there_are(crawl: Path, tmp_path: Path) -> None:
    said = make_crawl(crawl, 7, tmp_path / "made")
    entries = read_crawl(tmp_path / "made", ColumnSettings()).entries
    assert len({entry.video_id for entry in entries}) == len({entry.path for entry in entries}) == 7
    assert said.startswith("7 videos, 4 of them hard links")


def test_files_that_do_not_play_are_left_out(crawl: Path, tmp_path: Path) -> None:
    folder = tmp_path / "crawl"
    shutil.copytree(crawl, folder)
    (folder / "a.mp4").write_bytes(b"no video")
    assert make_crawl(folder, 3, tmp_path / "made") == "3 videos, skipped because they cannot be decoded: 1"
    for clip in folder.glob("clip*.mp4"):
        clip.unlink()
    with pytest.raises(CrawlError, match="None of the 1 files"):
        make_crawl(folder, 3, tmp_path / "none")
