"""Videos that are more work than the budget: parts of them, the same on every machine."""

from pathlib import Path

import numpy as np
import pytest

from nmcl.extractors.keyframes import KeyFrames
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.media.work import FEW_KEY_FRAMES, LEAST_FRAMES, cost
from tests.media import AllFrames, Decoded, decoded, request, run_ffmpeg

N_FRAMES = 300
SMALL = MediaSettings(budget_megapixels=1)


def allowed(codec: str) -> int:
    """Frames of the test's videos within that budget."""
    return max(LEAST_FRAMES, 10**6 // cost(codec, 160 * 96))


ENCODERS = {
    "h264": ("mp4", "-c:v", "libx264", "-preset", "veryfast", "-bf", 3, "-sc_threshold", 0),
    "h264_open": ("mkv", "-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", 0, "-x264-params", "open-gop=1"),
    "hevc_open": (
        "mp4",
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none:open-gop=1:scenecut=0",
    ),
    "mpeg2": ("ts", "-c:v", "mpeg2video", "-bf", 2, "-q:v", 3),
    "vp9": ("webm", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8),
    "mjpeg": ("avi", "-c:v", "mjpeg", "-q:v", 3),
}


def encode(path: Path, encoder: str, group: int) -> Path:
    """Ten seconds of moving pictures."""
    _, *options = ENCODERS[encoder]
    source = f"testsrc2=size=160x96:rate=30:duration={N_FRAMES / 30}"
    run_ffmpeg("-f", "lavfi", "-i", source, *options, "-pix_fmt", "yuv420p", "-g", group, path)
    return path


def assert_part_of(clip: Decoded, whole: Decoded) -> list[int]:
    """Every frame is bit for bit that of the whole at its time; their numbers."""
    assert clip.frames is not None
    assert whole.frames is not None
    numbers = [int(np.abs(np.array(whole.frame_times_s) - time_s).argmin()) for time_s in clip.frame_times_s]
    np.testing.assert_allclose(clip.frame_times_s, np.array(whole.frame_times_s)[numbers], atol=1e-3)
    np.testing.assert_array_equal(clip.frames, whole.frames[numbers])
    return numbers


@pytest.mark.parametrize("encoder", ENCODERS)
def test_beyond_the_budget_key_frames_are_decoded(tmp_path: Path, encoder: str) -> None:
    path = encode(tmp_path / f"clip.{ENCODERS[encoder][0]}", encoder, 10)
    whole = decoded(request(path, AllFrames()))
    assert len(whole.frame_times_s) == N_FRAMES
    numbers = assert_part_of(decoded(request(path, AllFrames()), SMALL), whole)
    n_allowed = min(N_FRAMES // 10, allowed(encoder.removesuffix("_open")))
    assert n_allowed - 2 <= len(numbers) <= n_allowed
    assert max(np.diff(numbers)) <= 40
    assert numbers[-1] >= N_FRAMES - 20


@pytest.mark.parametrize("encoder", ["h264", "h264_open", "hevc_open", "mpeg2", "vp9"])
@pytest.mark.parametrize("group", [100, 1000])
def test_with_few_key_frames_the_beginning_of_each_stretch_is_decoded(tmp_path: Path, encoder: str, group: int) -> None:
    path = encode(tmp_path / f"clip.{ENCODERS[encoder][0]}", encoder, group)
    whole = decoded(request(path, AllFrames()))
    numbers = assert_part_of(decoded(request(path, AllFrames()), SMALL), whole)
    n_groups = max(1, N_FRAMES // group)
    assert n_groups < FEW_KEY_FRAMES
    n_allowed = allowed(encoder.removesuffix("_open"))
    assert n_allowed - 3 * n_groups <= len(numbers) <= n_allowed
    assert len({number // group for number in numbers}) == n_groups


def test_key_frames_farther_apart_than_a_fault_of_time(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    source = "testsrc2=size=64x48:rate=10:duration=150"
    run_ffmpeg("-f", "lavfi", "-i", source, *ENCODERS["h264"][1:], "-g", 150, path)
    _, *times_s = decoded(request(path, AllFrames()), SMALL).frame_times_s
    np.testing.assert_allclose(times_s, np.arange(15, 150, 15))


@pytest.mark.parametrize("suffix", ["h264", "ts", "mkv", "flv"])
def test_files_whose_header_gives_no_number_of_frames(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    run_ffmpeg("-i", encode(tmp_path / "clip.mp4", "h264", 10), "-c", "copy", path)
    assert len(decoded(request(path, AllFrames())).frame_times_s) == N_FRAMES
    assert len(decoded(request(path, AllFrames()), SMALL).frame_times_s) == N_FRAMES // 10


def test_a_header_that_lies_about_the_number_of_frames(tmp_path: Path) -> None:
    """A fragmented MP4 whose first header claims a fraction of a second."""
    path = tmp_path / "clip.mp4"
    fragments = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"]
    run_ffmpeg("-i", encode(tmp_path / "whole.mp4", "h264", 10), "-c", "copy", *fragments, path)
    content = bytearray(path.read_bytes())
    for box in (b"mvhd", b"tkhd", b"mdhd", b"mehd"):
        at = content.find(box)
        if at >= 0:
            length = at + {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20, b"mehd": 8}[box]
            content[length : length + 4] = (100).to_bytes(4, "big")
    path.write_bytes(content)
    assert len(decoded(request(path, AllFrames())).frame_times_s) == N_FRAMES
    assert len(decoded(request(path, AllFrames()), SMALL).frame_times_s) == N_FRAMES // 10


def test_sound_is_whole_where_the_picture_is_thinned(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    picture = encode(tmp_path / "picture.mp4", "h264", 10)
    run_ffmpeg("-i", picture, "-f", "lavfi", "-i", "sine=440:duration=10", "-c:v", "copy", path)
    whole = decoded(request(path, KeyFrames(8), waveform=True))
    thinned = decoded(request(path, KeyFrames(8), waveform=True), SMALL)
    np.testing.assert_array_equal(thinned.waveform, whole.waveform)


def test_what_decides_vectors_is_in_the_address() -> None:
    default = MediaSettings()
    assert MediaSettings(timeout_s=1, workers=3, memory_mb=999, max_fetch_mb=2).address() == default.address()
    for other in (SMALL, MediaSettings(max_seconds=3), MediaSettings(max_pixels=100)):
        assert other.address() != default.address()
