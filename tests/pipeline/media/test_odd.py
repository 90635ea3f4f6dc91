"""Rare, broken and misnamed files: each ends as FFmpeg says that it should."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from nmcl.extractors.keyframes import KeyFrames
from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import MediaSettings, decode
from nmcl.pipeline.needs import SAMPLE_RATE_HZ
from nmcl.pipeline.records import Content
from tests.conftest import SHARED
from tests.media import Decoded, decoded, request, view

FILES = sorted(
    path
    for folder in ("failing", "odd")
    for path in (SHARED / "media" / folder).glob("*")
    if path.is_file() and path.suffix not in (".md", ".json")
)


def by_ffmpeg(path: Path, *arguments: str) -> bytes:
    """What the ffmpeg program makes of a file; nothing where it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-i", str(path), *arguments, "-"]
    return subprocess.run(command, capture_output=True, check=False).stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_picture_and_sound_are_found_where_ffmpeg_finds_them(path: Path) -> None:
    outcome = decode(request(path, KeyFrames(8), waveform=True), MediaSettings())
    if isinstance(outcome, ClipError):
        assert outcome.kind == "unreadable"
    clip = view(Content() if isinstance(outcome, ClipError) else outcome)
    picture = by_ffmpeg(path, "-map", "0:V", "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray")
    assert (clip.frames is not None) == bool(picture)
    sound = by_ffmpeg(path, "-vn", "-t", "180", "-f", "s16le", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ))
    if path.name == "sound_back_left_right.mov":  # ffmpeg knows no mix of these two channels
        sound = by_ffmpeg(path, "-vn", "-f", "s16le", "-af", "pan=mono|c0=.5*c0+.5*c1", "-ar", str(SAMPLE_RATE_HZ))
    assert (clip.waveform is not None) == bool(sound)
    if clip.waveform is not None:
        assert abs(len(clip.waveform) - len(sound) // 2) <= max(0.03 * len(sound) / 2, 2500)
    if clip.frames is not None:
        assert list(clip.frame_times_s) == sorted(set(clip.frame_times_s))
    for problem in clip.problems.values():
        assert problem.kind in {"no_picture", "no_sound", "unreadable"}


def picture_of(name: str) -> Decoded:
    path = SHARED / "media" / "failing" / name
    if not path.is_file():
        pytest.skip("the shared media are not beside the repository")
    return decoded(request(path, KeyFrames(8), waveform=True))


def test_slides_before_motion_are_all_looked_at() -> None:
    assert {0.0, 3.0, 6.0, 9.0} <= {round(t, 2) for t in picture_of("vfr_slides_then_60fps.mp4").frame_times_s}


def test_frames_behind_a_jump_of_time_are_looked_at() -> None:
    clip = picture_of("time_jumps_1000s.mp4")
    assert len(clip.frame_times_s) == 8
    assert np.diff(clip.frame_times_s).max() < 1


def test_twelve_megapixels_are_decoded_with_their_sound() -> None:
    clip = picture_of("twelve_megapixels.mp4")
    assert clip.frames is not None
    assert clip.waveform is not None
    assert not clip.problems
