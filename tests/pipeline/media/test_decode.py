"""Decoding: what comes out of real files, and that a bad one harms no other."""

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from pipeline.bench.decoding import every_frame
from pipeline.errors import ClipError
from pipeline.media import SAMPLE_RATE_HZ, Decoder, MediaSettings, Request, TimedFrame, decode
from pipeline.records import Clip
from tests.media import shades, tone, write_video


@dataclass(frozen=True)
class AllFrames:
    """Hands over every frame, RGB."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        kept = list(frames)
        return np.stack([frame.picture() for frame in kept]), tuple(frame.time_s for frame in kept)


@dataclass(frozen=True)
class CountsFrames:
    """Hands over one pixel and the time of the last frame."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        *_, last = frames
        return last.picture()[None, :1, :1], (last.time_s,)


@dataclass(frozen=True)
class Hangs:
    """Never comes back."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        while True:
            time.sleep(1)


@dataclass(frozen=True)
class KillsItsProcess:
    """As a decoder does that hits invalid memory."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


def decoded(request: Request, settings: MediaSettings) -> Clip:
    outcome = decode(request, settings)
    assert isinstance(outcome, Clip), outcome
    return outcome


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    return write_video(folder / "clip.mp4", shades([40, 200], 10), fps=10, sound=tone(1000, 2.0))


def test_picture_and_sound_of_one_file(clip_file: Path) -> None:
    clip = decoded(Request(clip_file, AllFrames(), waveform=True), MediaSettings())
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
    clip = decoded(Request(clip_file, AllFrames()), MediaSettings())
    expected = list(every_frame(clip_file))
    assert clip.frames is not None
    np.testing.assert_array_equal(clip.frames, np.stack([frame.picture() for frame in expected]))
    np.testing.assert_allclose(clip.frame_times_s, [frame.time_s for frame in expected], atol=1e-6)


def test_frames_are_upright(tmp_path: Path, clip_file: Path) -> None:
    turned = tmp_path / "turned.mp4"
    arguments = ffmpeg.input(str(clip_file), display_rotation=90).output(str(turned), c="copy")
    arguments.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True)
    clip = decoded(Request(turned, AllFrames()), MediaSettings())
    assert clip.frames is not None
    np.testing.assert_array_equal(clip.frames, np.stack([frame.picture() for frame in every_frame(turned)]))
    assert clip.frames.shape == (20, 96, 64, 3)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000])
def test_sound_is_that_of_ffmpeg(tmp_path: Path, rate_hz: int) -> None:
    """But for the last bits of resampling, and for the codec's padding behind the end."""
    path = tmp_path / "sound.mkv"
    noise = np.random.default_rng(rate_hz).normal(0, 3000, (2 * rate_hz, 2)).astype(np.int16)
    source = ffmpeg.input("pipe:", format="s16le", ar=rate_hz, ac=2).output(str(path), acodec="flac")
    source.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=noise.tobytes(), quiet=True)
    found = decoded(Request(path, waveform=True), MediaSettings()).waveform
    heard = ffmpeg.input(str(path)).output("pipe:", format="s16le", ac=1, ar=SAMPLE_RATE_HZ)
    pcm, _ = heard.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True)
    expected = np.frombuffer(pcm, np.int16)
    assert found is not None
    assert abs(len(found) - len(expected)) <= 1
    assert np.abs(found[: len(expected)].astype(int) - expected[: len(found)]).max() <= 3


def test_nothing_is_decoded_that_was_not_asked_for(clip_file: Path) -> None:
    assert decoded(Request(clip_file, AllFrames()), MediaSettings()).waveform is None
    assert decoded(Request(clip_file, waveform=True), MediaSettings()).frames is None


def test_no_soundtrack_is_data_not_failure(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "silent.mp4", shades([90], 5))
    clip = decoded(Request(silent, AllFrames(), waveform=True), MediaSettings())
    assert clip.waveform is None
    assert clip.problems["waveform"].kind == "no_sound"


def test_only_the_beginning_of_a_long_file(clip_file: Path) -> None:
    clip = decoded(Request(clip_file, AllFrames(), waveform=True), MediaSettings(max_seconds=1.0))
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
    outcome = decode(Request(path, AllFrames(), waveform=True), MediaSettings())
    assert isinstance(outcome, ClipError)
    assert str(outcome).startswith(failure)


def test_truncated_file(tmp_path: Path, clip_file: Path) -> None:
    path = tmp_path / "cut.mp4"
    path.write_bytes(clip_file.read_bytes()[:1500])
    outcome = decode(Request(path, AllFrames(), waveform=True), MediaSettings())
    assert isinstance(outcome, ClipError)
    assert outcome.kind == "unreadable"


def test_too_large_a_picture_is_refused(clip_file: Path) -> None:
    clip = decoded(Request(clip_file, AllFrames(), waveform=True), MediaSettings(max_pixels=100))
    assert clip.problems["frames"].kind == "too_large"
    assert clip.waveform is not None


def test_playlists_reach_nothing(tmp_path: Path, clip_file: Path) -> None:
    """A playlist in disguise may name other files and addresses; none of them is opened."""
    playlist = tmp_path / "playlist.mp4"
    playlist.write_text(f"#EXTM3U\n#EXTINF:2,\n{clip_file}\n#EXT-X-ENDLIST\n")
    concat = tmp_path / "concat.mp4"
    concat.write_text(f"ffconcat version 1.0\nfile '{clip_file}'\n")
    for path in (playlist, concat):
        outcome = decode(Request(path, AllFrames(), waveform=True), MediaSettings())
        assert isinstance(outcome, ClipError)
        assert outcome.kind == "unreadable"


def test_a_file_that_hangs_or_crashes_the_decoder_harms_no_other(clip_file: Path) -> None:
    selectors = [AllFrames(), Hangs(), AllFrames(), KillsItsProcess(), AllFrames(), AllFrames()]
    with Decoder(MediaSettings(timeout_s=6, workers=2)) as decoder:
        results = list(decoder.clips(Request(clip_file, selector) for selector in selectors))
    kinds = [result.kind if isinstance(result, ClipError) else "ok" for result in results]
    assert kinds == ["ok", "timeout", "ok", "crashed", "ok", "ok"]


def test_results_come_in_order_and_equal_those_of_one_process(tmp_path: Path) -> None:
    files = [write_video(tmp_path / f"{i}.mp4", shades([10 + 20 * i], 4)) for i in range(8)]
    requests = [Request(path, AllFrames()) for path in files]
    with Decoder(MediaSettings(workers=2)) as decoder:
        together = list(decoder.clips(iter(requests)))
        again = list(decoder.clips(iter(requests[:2])))
    alone = [decoded(request, MediaSettings()) for request in requests]
    for clip, expected in zip([*together, *again], [*alone, *alone[:2]], strict=True):
        assert isinstance(clip, Clip)
        np.testing.assert_array_equal(clip.frames, expected.frames)


def test_odd_media(shared: Path) -> None:
    """Rare, broken and misnamed files: each a clip or a typed failure, and never an exception."""
    files = sorted((shared / "media" / "odd").iterdir())
    with Decoder(MediaSettings(timeout_s=60)) as decoder:
        results = list(decoder.clips(Request(path, CountsFrames(), waveform=True) for path in files))
    assert len(results) == len(files)
    n_clips = sum(isinstance(result, Clip) for result in results)
    assert n_clips >= 27
