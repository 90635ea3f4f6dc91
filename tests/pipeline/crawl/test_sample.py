import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from nmcl.pipeline.crawl import sample
from nmcl.pipeline.crawl.sample import SAMPLE_NOTE, is_sample, make_sample
from nmcl.pipeline.crawl.sample_scenes import HEIGHT, N_FRAMES, N_SAMPLES, VENUES, WIDTH, caption, picture, sound
from nmcl.pipeline.errors import CrawlError


@pytest.fixture(scope="module")
def crawl(sample_crawl: Path) -> Path:
    return sample_crawl


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "N_PER_VENUE", 2)
    monkeypatch.setattr(sample, "N_WITHOUT_VENUE", 1)
    monkeypatch.setattr(sample, "N_SIDECARS", 2)


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_has_enough_videos_of_every_venue_and_some_to_predict(crawl: Path) -> None:
    venues = Counter(row["venue"] for row in _rows(crawl) if row["video_id"] not in ("broken", "reupload"))
    assert venues == {**dict.fromkeys(VENUES, 60), "": 12}
    assert all((crawl / row["video_path"]).is_file() for row in _rows(crawl))


def test_every_video_but_the_broken_one_plays(crawl: Path) -> None:
    n_silent = 0
    rows = _rows(crawl)
    for row in rows:
        if row["video_id"] == "broken":
            with pytest.raises(av.FFmpegError):
                av.open(str(crawl / row["video_path"]))
            continue
        with av.open(str(crawl / row["video_path"])) as media:
            video = media.streams.video[0]
            assert (video.codec_context.name, video.frames) == ("h264", N_FRAMES)
            assert (video.width, video.height) == (WIDTH, HEIGHT)
            n_silent += not media.streams.audio
            for audio in media.streams.audio:
                assert (audio.codec_context.name, audio.sample_rate, audio.channels) == ("aac", 22_050, 1)
    assert 0.02 < n_silent / len(rows) < 0.1


def test_some_videos_have_no_description(crawl: Path) -> None:
    rows = _rows(crawl)
    assert 0.05 < sum(not row["description"] for row in rows) / len(rows) < 0.18


def test_has_an_exact_reupload(crawl: Path) -> None:
    digests = Counter(_digests(crawl / "videos").values())
    assert sorted(digests.values())[-2:] == [1, 2]


def test_sidecars_agree_with_the_manifest(crawl: Path) -> None:
    described = {row["video_id"]: row["description"] for row in _rows(crawl)}
    sidecars = sorted((crawl / "videos").glob("*.info.json"))
    assert len(sidecars) == sample.N_SIDECARS
    for path in sidecars:
        info = json.loads(path.read_text(encoding="utf-8"))
        assert (info["description"] or "") == described[info["id"]]
        assert path.with_name(f"{info['id']}.mp4").is_file()


def test_is_small_and_says_what_it_is(crawl: Path) -> None:
    assert sum(path.stat().st_size for path in crawl.rglob("*") if path.is_file()) < 10_000_000
    assert SAMPLE_NOTE in (crawl / "README.txt").read_text(encoding="utf-8")
    assert is_sample(crawl)
    assert not is_sample(crawl / "videos")


@pytest.mark.usefixtures("small")
def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        make_sample(tmp_path / name, seed=seed)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    assert _digests(tmp_path / "a") != _digests(tmp_path / "c")


@pytest.mark.usefixtures("small")
def test_a_finished_sample_is_left_alone(tmp_path: Path) -> None:
    make_sample(tmp_path / "crawl")
    (tmp_path / "crawl/manifest.csv").write_text("edited by its owner")
    make_sample(tmp_path / "crawl")
    assert (tmp_path / "crawl/manifest.csv").read_text() == "edited by its owner"


@pytest.mark.usefixtures("small")
def test_refuses_folders_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/film.mp4").write_bytes(b"mine")
    with pytest.raises(CrawlError, match="is not a sample"):
        make_sample(tmp_path / "holiday")
    assert (tmp_path / "holiday/film.mp4").read_bytes() == b"mine"

    (tmp_path / "empty").mkdir()
    make_sample(tmp_path / "empty", seed=1)
    with pytest.raises(CrawlError, match="'seed': 1"):
        make_sample(tmp_path / "empty", seed=2)


@pytest.mark.usefixtures("small")
def test_an_interrupted_sample_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int, note: str = "") -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sample(tmp_path / "crawl", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_tells_its_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_sample(tmp_path / "crawl", progress=lambda stage, done, total, note="": seen.append((done, total)))
    assert seen == [(i, 7) for i in range(8)]


@pytest.mark.parametrize("venue", VENUES)
def test_scenes_have_the_promised_shapes(venue: str) -> None:
    frames = list(picture(venue, np.random.default_rng(0)))
    assert len(frames) == N_FRAMES
    assert {(frame.shape, frame.dtype) for frame in frames} == {((HEIGHT, WIDTH, 3), np.dtype(np.uint8))}
    assert not np.array_equal(frames[0], frames[-1])
    samples = sound(venue, np.random.default_rng(0))
    assert (samples.shape, samples.dtype) == ((N_SAMPLES,), np.int16)
    assert np.abs(samples.astype(int)).max() > 2000
    assert 6 <= len(caption(venue, np.random.default_rng(0)).split()) <= 14


def test_every_modality_tells_something_but_none_everything() -> None:
    plans = [plan for plan in sample._plan(0) if plan.venue is not None]
    for own in (
        [plan.shows == plan.venue for plan in plans],
        [plan.sounds_like == plan.venue for plan in plans if plan.sounds_like],
    ):
        assert 0.7 < np.mean(own) < 0.95
