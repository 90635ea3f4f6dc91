"""Pictures: which way is up, when they are shown, how many bytes they keep."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nmcl.pipeline.media.frames import KEPT_BYTES, MAX_GAP_S, Clock
from nmcl.pipeline.needs import TimedFrame
from tests.media import AllFrames, AtOnce, decoded, request, rgb_by_ffmpeg, run_ffmpeg, shades, write_video


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that look different whichever way they are turned."""
    path = tmp_path_factory.mktemp("media") / "lopsided.mp4"
    source = "testsrc2=size=96x64:rate=10:duration=0.3"
    run_ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv444p", "-crf", 5, path)
    return path


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrors", [(), ("hflip",), ("vflip",), ("hflip", "vflip")])
def test_frames_are_upright_as_ffmpeg_shows_them(
    tmp_path: Path, lopsided: Path, turn: int, mirrors: tuple[str, ...]
) -> None:
    path = tmp_path / "turned.mp4"
    options = [f"-display_{mirror}" for mirror in mirrors]
    run_ffmpeg("-display_rotation", turn, *options, "-i", lopsided, "-c", "copy", path)
    frames = decoded(request(path, AllFrames())).frames
    assert frames is not None
    assert frames.shape == ((3, 96, 64, 3) if turn % 180 else (3, 64, 96, 3))
    np.testing.assert_array_equal(frames, rgb_by_ffmpeg(path, frames.shape))


@pytest.mark.parametrize("kind", ["bgr24", "rgb555le", "pal8", "gray"])
def test_pictures_stored_from_the_bottom_up(tmp_path: Path, lopsided: Path, kind: str) -> None:
    path = tmp_path / "raw.avi"
    run_ffmpeg("-i", lopsided, "-c:v", "rawvideo", "-pix_fmt", kind, path)
    clip = decoded(request(path, AllFrames()))
    assert clip.frames is not None
    np.testing.assert_array_equal(clip.frames, rgb_by_ffmpeg(path, clip.frames.shape))


def frames_of(path: Path) -> list[TimedFrame]:
    """All frames, as a selector sees them."""

    class Kept(AtOnce):
        seen: Sequence[TimedFrame] = ()

        def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
            self.seen = frames
            return frames[:1]

    decoded(request(path, kept := Kept()))
    return [*kept.seen]


@pytest.mark.parametrize("kind", ["bgr24", "gray", "yuv420p", "yuv420p10le", "gbrp"])
def test_brightness_is_that_of_the_picture(tmp_path: Path, lopsided: Path, kind: str) -> None:
    path = tmp_path / "raw.nut"
    run_ffmpeg("-i", lopsided, "-c:v", "rawvideo" if kind != "gbrp" else "ffv1", "-pix_fmt", kind, path)
    for frame in frames_of(path):
        grey = np.asarray(Image.fromarray(frame.picture()).convert("L")).astype(float)
        assert frame.luma.shape == grey.shape
        assert np.corrcoef(frame.luma.ravel(), grey.ravel())[0, 1] > 0.95


def test_large_pictures_are_scaled_as_they_arrive(tmp_path: Path) -> None:
    """4000 x 3000, the 4:3 format of action cameras, turned: upright, and small enough to keep dozens."""
    path, turned = tmp_path / "large.mp4", tmp_path / "turned.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=size=4000x3000:rate=5:duration=0.4", "-preset", "ultrafast", path)
    run_ffmpeg("-display_rotation", 90, "-i", path, "-c", "copy", turned)
    frames = frames_of(turned)
    assert len(frames) == 2
    for frame, expected in zip(frames, rgb_by_ffmpeg(turned, (2, 4000, 3000, 3)), strict=True):
        picture = frame.picture()
        assert frame.luma.base is not None
        assert picture.nbytes / 2 <= KEPT_BYTES
        small = np.asarray(Image.fromarray(expected).resize(picture.shape[1::-1], Image.Resampling.BOX))
        assert np.abs(small.astype(int) - picture).mean() < 6


def test_a_thumbnail_track_is_not_the_video(tmp_path: Path, lopsided: Path) -> None:
    still, path = tmp_path / "still.jpg", tmp_path / "both.mov"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:size=640x480", "-frames:v", 1, still)
    maps = ["-map", "0:v", "-map", "1:v", "-c", "copy"]
    for default in ([], ["-disposition:v:0", "default", "-disposition:v:1", "0"]):
        run_ffmpeg("-i", still, "-i", lopsided, *maps, *default, path)
        frames = decoded(request(path, AllFrames())).frames
        assert frames is not None
        assert frames.shape == (3, 64, 96, 3)


@pytest.mark.parametrize(("suffix", "default"), [("mp4", 1), ("mkv", 1), ("mkv", 0)])
def test_of_two_videos_the_default_is_shown(tmp_path: Path, suffix: str, default: int) -> None:
    small = write_video(tmp_path / "small.mp4", shades([50], 10, (48, 64)))
    large = write_video(tmp_path / "large.mp4", shades([90], 10, (96, 128)))
    path = tmp_path / f"both.{suffix}"
    marks = ["-disposition:v:0", "0", "-disposition:v:1", "0", f"-disposition:v:{default}", "default"]
    run_ffmpeg("-i", small, "-i", large, "-map", "0:v", "-map", "1:v", "-c", "copy", *marks, path)
    frames = decoded(request(path, AllFrames())).frames
    assert frames is not None
    # In MP4, tracks are only on or off, and both are on: the larger picture is taken.
    assert frames.shape[1:3] == ((96, 128) if default else (48, 64))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animated_pictures(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "animated.mp4"
    levels = [20, 80, 140, 200]
    first, *others = (Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in levels)
    lossless = {"lossless": True} if kind == "WEBP" else {}
    first.save(path, format=kind, save_all=True, append_images=others, duration=500, **lossless)
    clip = decoded(request(path, AllFrames(), waveform=True))
    assert clip.frames is not None
    np.testing.assert_allclose(clip.frames.mean(axis=(1, 2, 3)), levels, atol=2)
    np.testing.assert_allclose(clip.frame_times_s, [0, 0.5, 1, 1.5])
    assert clip.problems["waveform"].kind == "no_sound"


def test_a_damaged_webp_is_a_typed_failure(tmp_path: Path) -> None:
    path = tmp_path / "bad.webp"
    path.write_bytes(b"RIFF\x40\x00\x00\x00WEBPVP8 " + bytes(range(60)))
    assert decoded(request(path, AllFrames())).problems["frames"].kind == "no_picture"


@pytest.mark.parametrize(
    "stamps",
    [
        "if(lt(N,1),N,N+10000)",  # a jump
        "if(lt(N,15),N+300,N)",  # a restart: the muxer is given stamps that go back
        "N*N*3",  # steps that grow beyond all bounds
    ],
)
def test_all_frames_are_seen_whatever_the_time_stamps(tmp_path: Path, stamps: str) -> None:
    path = tmp_path / "stamps.nut"
    source = "testsrc2=size=64x48:rate=10:duration=3"
    options = ["-c:v", "mpeg4", "-g", 1, "-fps_mode", "passthrough", "-bsf:v", f"setts=ts='{stamps}'"]
    run_ffmpeg("-f", "lavfi", "-i", source, *options, path)
    clip = decoded(request(path, AllFrames()))
    assert clip.frames is not None
    assert len(clip.frames) >= 29
    assert np.diff(clip.frame_times_s).min() > 0
    assert np.diff(clip.frame_times_s).max() <= MAX_GAP_S + 0.2


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
def test_time_goes_forward_and_never_jumps(stamps_s: list[float | None]) -> None:
    clock = Clock(0.04)
    times_s = [clock.at(stamp_s) for stamp_s in stamps_s]
    assert 0 <= times_s[0] <= MAX_GAP_S
    assert all(0 < gap <= MAX_GAP_S + 0.05 for gap in np.diff(times_s))


@given(st.lists(st.floats(0.001, 9), min_size=1, max_size=60))
def test_sound_time_stamps_are_kept_bit_for_bit(gaps_s: list[float]) -> None:
    stamps_s = [0.0, *np.cumsum(gaps_s).tolist()]
    clock = Clock(0.04)
    assert [clock.at(stamp_s) for stamp_s in stamps_s] == stamps_s
