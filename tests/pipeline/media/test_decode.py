"""Decoding: what comes out of real files, and that a bad one harms no other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from nmcl.pipeline.bench.decoding import every_frame
from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import MediaSettings, decode
from nmcl.pipeline.needs import SAMPLE_RATE_HZ, TimedFrame
from tests.media import AllFrames, AtOnce, decoded, request, shades, tone, write_video


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    return write_video(folder / "clip.mp4", shades([40, 200], 10), fps=10, sound=tone(1000, 2.0))


def test_picture_and_sound_of_one_file(clip_file: Path) -> None:
    clip = decoded(request(clip_file, AllFrames(), waveform=True), MediaSettings())
    assert clip.frames is not None
    assert clip.frames.shape == (20, 64, 96, 3)
    assert clip.frames.dtype == np.uint8
    np.testing.assert_allclose(clip.frames[2].mean(), 40, atol=3)
    np.testing.assert_allclose(clip.frames[-2].mean(), 200, atol=3)
    np.testing.assert_allclose(np.diff(clip.frame_times_s), 0.1, atol=1e-3)
    assert clip.waveform is not None
    assert clip.waveform.dtype == np.int16
    assert abs(len(clip.waveform) / SAMPLE_RATE_HZ - 2.0) < 0.1
    spectrum = np.abs(np.fft.rfft(clip.waveform))
    peak_hz = spectrum.argmax() * SAMPLE_RATE_HZ / len(clip.waveform)
    assert abs(peak_hz - 1000) < 5


def test_pictures_are_those_of_opencv(clip_file: Path) -> None:
    clip = decoded(request(clip_file, AllFrames()), MediaSettings())
    expected = list(every_frame(clip_file))
    assert clip.frames is not None
    np.testing.assert_array_equal(clip.frames, np.stack([frame.picture() for frame in expected]))
    np.testing.assert_allclose(clip.frame_times_s, [frame.time_s for frame in expected], atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_sound_is_that_of_ffmpeg(tmp_path: Path, rate_hz: int) -> None:
    """But for the last bits of resampling, and for the codec's padding behind the end."""
    path = tmp_path / "sound.mkv"
    noise = np.random.default_rng(rate_hz).normal(0, 3000, (2 * rate_hz, 2)).astype(np.int16)
    source = ffmpeg.input("pipe:", format="s16le", ar=rate_hz, ac=2).output(str(path), acodec="flac")
    source.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=noise.tobytes(), quiet=True)
    found = decoded(request(path, waveform=True), MediaSettings()).waveform
    heard = ffmpeg.input(str(path)).output("pipe:", format="s16le", ac=1, ar=SAMPLE_RATE_HZ)
    pcm, _ = heard.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True)
    expected = np.frombuffer(pcm, np.int16)
    assert found is not None
    assert abs(len(found) - len(expected)) <= 1
    assert np.abs(found[: len(expected)].astype(int) - expected[: len(found)]).max() <= 3


def test_nothing_is_decoded_that_was_not_asked_for(clip_file: Path) -> None:
    assert decoded(request(clip_file, AllFrames()), MediaSettings()).waveform is None
    assert decoded(request(clip_file, waveform=True), MediaSettings()).frames is None


def test_no_soundtrack_is_data_not_failure(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", shades([90], 5))
    clip = decoded(request(silent, AllFrames(), waveform=True), MediaSettings())
    assert clip.waveform is None
    assert clip.problems["waveform"].kind == "no_sound"


def test_only_the_beginning_of_a_long_file(clip_file: Path) -> None:
    clip = decoded(request(clip_file, AllFrames(), waveform=True), MediaSettings(max_seconds=1.0))
    assert clip.frames is not None
    assert clip.waveform is not None
    assert 9 <= len(clip.frames) <= 11
    assert abs(len(clip.waveform) / SAMPLE_RATE_HZ - 1.0) < 0.1


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (b"", "unreadable: an empty file"),
        (b"not a video" * 100, "unreadable: not a media file"),
        (None, "missing: there is no such file"),
    ],
)
def test_bad_files_have_typed_failures(tmp_path: Path, content: bytes | None, failure: str) -> None:
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    outcome = decode(request(path, AllFrames(), waveform=True), MediaSettings())
    assert isinstance(outcome, ClipError)
    assert str(outcome).startswith(failure)


def test_truncated_file(tmp_path: Path, clip_file: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip_file.read_bytes()[:1500])
    outcome = decode(request(path, AllFrames(), waveform=True), MediaSettings())
    assert isinstance(outcome, ClipError)
    assert outcome.kind == "unreadable"


def test_too_large_a_picture_is_refused(clip_file: Path) -> None:
    clip = decoded(request(clip_file, AllFrames(), waveform=True), MediaSettings(max_pixels=100))
    assert clip.problems["frames"].kind == "too_large"
    assert clip.waveform is not None


@dataclass(frozen=True)
class Surprises(AtOnce):
    """Raises what nobody foresaw."""

    folder: str

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        raise RuntimeError(f"the object at {id(frames):#x} of {self.folder}/frames.npy")


def test_what_nobody_foresaw_is_internal_and_leaves_the_sound(tmp_path: Path, clip_file: Path) -> None:
    requests = [request(clip_file, Surprises(str(folder)), waveform=True) for folder in (tmp_path, tmp_path / "a")]
    problems = [decoded(asked, MediaSettings()).problems["frames"] for asked in requests]
    assert problems[0].kind == "internal"
    assert problems[0].detail.startswith("RuntimeError: the object at 0x… of frames.npy (test_decode.py:")
    assert str(problems[0]) == str(problems[1])
    assert decoded(requests[0], MediaSettings()).waveform is not None
