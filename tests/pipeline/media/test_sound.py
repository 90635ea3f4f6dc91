"""Soundtracks: whatever their channels, one mono waveform."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nmcl.extractors.keyframes import EvenFrames
from nmcl.pipeline.needs import SAMPLE_RATE_HZ, TimedFrame
from tests.media import AtOnce, decoded, request, run_ffmpeg, shades, tone, write_video

UNMIXABLE = {"BL+BR": 2, "FLC+FRC": 2, "TFL+TFR": 2, "LFE": 1, "9 channels": 9, "32 channels": 32, "ambisonic 2": 9}


def noise(n_channels: int) -> np.ndarray:
    """A second of it: shape (n_samples, n_channels), int16."""
    samples = np.random.default_rng(0).normal(0, 3000, (SAMPLE_RATE_HZ, n_channels))
    return samples.astype("<i2")


def write_sound(path: Path, samples: np.ndarray, layout: str, *options: object) -> Path:
    source = ["-f", "s16le", "-ar", SAMPLE_RATE_HZ, "-ch_layout", layout, "-i", "-"]
    run_ffmpeg(*source, *options, path, stdin=samples.tobytes())
    return path


@pytest.mark.parametrize("suffix", ["wav", "mov", "caf"])
@pytest.mark.parametrize("layout", UNMIXABLE)
def test_channels_that_ffmpeg_cannot_mix_are_averaged(tmp_path: Path, layout: str, suffix: str) -> None:
    samples = noise(UNMIXABLE[layout])
    path = write_sound(tmp_path / f"sound.{suffix}", samples, layout, "-c:a", "pcm_s16le")
    found = decoded(request(path, waveform=True)).waveform
    assert found is not None
    expected = samples.mean(axis=1)
    assert abs(len(found) - len(expected)) <= 16
    assert np.abs(found[: len(expected)] - expected[: len(found)]).max() <= 2


@pytest.mark.parametrize("layout", ["FR+FL", "LFE+FL+FR", "7.1", "22.2", "hexadecagonal", "cube", "ambisonic 1+stereo"])
@pytest.mark.parametrize("suffix", ["mov", "caf"])
def test_channels_in_any_order_are_mixed(tmp_path: Path, layout: str, suffix: str) -> None:
    """Some are stored in an order of their own, on which PyAV damages its memory."""
    n_channels = {"FR+FL": 2, "LFE+FL+FR": 3, "7.1": 8, "22.2": 24, "cube": 8, "ambisonic 1+stereo": 6}.get(layout, 16)
    samples = np.repeat(tone(440, 1.0)[:, None], n_channels, axis=1)
    path = write_sound(tmp_path / f"sound.{suffix}", samples.astype("<i2"), layout, "-c:a", "pcm_s16le")
    for _ in range(5):
        found = decoded(request(path, waveform=True)).waveform
        assert found is not None
        n = min(len(found), len(samples))
        assert np.corrcoef(found[:n], samples[:n, 0])[0, 1] > 0.99


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s32le", "pcm_s64le", "pcm_f32le", "pcm_f64le"])
def test_samples_of_any_kind(tmp_path: Path, codec: str) -> None:
    path = write_sound(tmp_path / "sound.wav", noise(9) // 2, "9 channels", "-c:a", codec)
    found = decoded(request(path, waveform=True)).waveform
    assert found is not None
    expected = (noise(9) // 2).mean(axis=1)
    assert np.corrcoef(found[: len(expected)], expected[: len(found)])[0, 1] > 0.98


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_not_numbers_are_no_sound(tmp_path: Path, codec: str, value: float) -> None:
    """FFmpeg makes them the most negative sample, or silence."""
    samples = noise(2).astype("<f8") / 2**15
    samples[::20] = value
    path = write_floats(tmp_path / "sound.mkv", samples, codec)
    failure = decoded(request(path, waveform=True)).problems["waveform"]
    assert failure.kind == "unreadable"
    assert "5 % of the sound samples are not numbers" in str(failure)


@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
def test_a_few_samples_that_are_not_numbers_are_silent(tmp_path: Path, codec: str) -> None:
    samples = noise(2).astype("<f8") / 2**15
    silent = samples.copy()
    silent[1000:1010], samples[1000:1005], samples[1005:1010] = 0, np.nan, -np.inf
    found, expected = (
        decoded(request(write_floats(tmp_path / f"{name}.mkv", values, codec), waveform=True)).waveform
        for name, values in (("bad", samples), ("silent", silent))
    )
    assert found is not None
    np.testing.assert_array_equal(found, expected)
    loud = decoded(request(write_floats(tmp_path / "loud.mkv", 40_000 * silent, codec), waveform=True)).waveform
    assert loud is not None
    assert loud.max() == 2**15 - 1  # clipped, as FFmpeg does


def write_floats(path: Path, samples: np.ndarray, codec: str) -> Path:
    source = ["-f", "f64le", "-ar", SAMPLE_RATE_HZ, "-ch_layout", "stereo", "-i", "-"]
    run_ffmpeg(*source, "-c:a", codec, path, stdin=samples.astype("<f8").tobytes())
    return path


def test_channels_change_on_the_way(tmp_path: Path) -> None:
    one = write_sound(tmp_path / "one.ts", noise(1), "mono", "-c:a", "mp2")
    two = write_sound(tmp_path / "two.ts", noise(2), "stereo", "-c:a", "mp2")
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    found = decoded(request(path, waveform=True)).waveform
    assert found is not None
    assert abs(len(found) / SAMPLE_RATE_HZ - 2) < 0.2


def test_a_commentary_is_not_the_sound(tmp_path: Path) -> None:
    talk = write_sound(tmp_path / "talk.wav", tone(300, 2.0)[:, None], "mono")
    main = write_sound(tmp_path / "main.wav", tone(1200, 2.0)[:, None], "mono")
    path = tmp_path / "both.mka"
    marks = ["-disposition:a:0", "comment", "-disposition:a:1", "default"]
    run_ffmpeg("-i", talk, "-i", main, "-map", "0", "-map", "1", "-c:a", "flac", *marks, path)
    found = decoded(request(path, waveform=True)).waveform
    assert found is not None
    assert abs(np.abs(np.fft.rfft(found)).argmax() * SAMPLE_RATE_HZ / len(found) - 1200) < 5


def test_music_with_a_cover_keeps_its_sound(tmp_path: Path) -> None:
    cover, path = tmp_path / "cover.png", tmp_path / "music.mp3"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", 1, cover)
    music = write_sound(tmp_path / "music.wav", noise(2), "stereo")
    run_ffmpeg("-i", music, "-i", cover, "-map", "0:a", "-map", "1:v", "-c:v", "copy", path)
    clip = decoded(request(path, NeverCalled(), waveform=True))
    assert clip.problems["frames"].kind == "no_picture"
    assert clip.waveform is not None


def test_sound_that_cannot_be_decoded_leaves_the_picture(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.avi", shades([90], 10), sound=tone(440, 1.0), codec="mpeg4")
    data = bytearray(good.read_bytes())
    for at in range(len(data)):
        if data[at : at + 4] == b"01wb":
            size = int.from_bytes(data[at + 4 : at + 8], "little")
            data[at + 8 : at + 8 + size] = bytes(size)
    path = tmp_path / "silenced.avi"
    path.write_bytes(data)
    clip = decoded(request(path, EvenFrames(1), waveform=True))
    assert clip.frames is not None
    assert clip.waveform is None
    assert clip.problems["waveform"].kind == "unreadable"
    again = decoded(request(path, EvenFrames(1), waveform=True))
    assert str(again.problems["waveform"]) == str(clip.problems["waveform"])


class NeverCalled(AtOnce):
    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        raise AssertionError(frames)
