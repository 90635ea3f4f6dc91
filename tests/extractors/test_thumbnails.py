"""The size of thumbnails, which key frames they show, and what a spectrogram shows of a sound."""

import io

import numpy as np
import pytest
from PIL import Image

from nmcl.extractors.spectrogram import mel_bands
from nmcl.extractors.thumbnails import Small, Thumbnailer, ThumbnailSettings, without_margin
from nmcl.pipeline.needs import SAMPLE_RATE_HZ


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 96), (64, 96)), ((1920, 1080), (160, 90)), ((100, 4000), (7, 284))]
)
def test_pictures_are_scaled_to_fit_and_keep_black_edges(size: tuple[int, int], expected: tuple[int, int]) -> None:
    canvas = Small(160)(np.zeros((*size, 3), np.uint8))
    assert canvas.shape == (161, 284, 3)
    assert without_margin(canvas).shape == (*expected, 3)


def test_three_of_eight_key_frames_are_kept_in_order_of_time() -> None:
    frames = np.stack([Small(160)(np.full((320, 180, 3), 30 * i, np.uint8)) for i in range(8)])
    chosen, files = Thumbnailer(ThumbnailSettings()).encoded(frames)
    assert chosen == [0, 4, 7]
    pictures = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    assert [picture.shape for picture in pictures] == [(160, 90, 3)] * 3
    assert [abs(picture.mean() - 30 * i) < 2 for i, picture in zip(chosen, pictures, strict=True)] == [True] * 3
    assert len(Thumbnailer(ThumbnailSettings()).encoded(frames[:2])[1]) == 2


def _spectrogram(waveform: np.ndarray) -> np.ndarray:
    """The brightness of a spectrogram's pixels, lowest band first."""
    picture = Image.open(io.BytesIO(Thumbnailer(ThumbnailSettings()).spectrogram(waveform)))
    return np.asarray(picture.convert("L"), np.float32)[::-1]


def _tone(hz: float, seconds: float, level: float = 0.5) -> np.ndarray:
    times_s = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (32767 * level * np.sin(2 * np.pi * hz * times_s)).astype(np.int16)


@pytest.mark.parametrize("hz", [300, 3000, 9000])
def test_a_tone_is_a_bright_line_at_its_height(hz: float) -> None:
    brightness = _spectrogram(_tone(hz, 2)).mean(axis=1)
    assert abs(int(brightness.argmax()) - int(mel_bands(64)[:, round(hz * 1024 / SAMPLE_RATE_HZ)].argmax())) <= 1
    assert brightness.max() > brightness.min() + 100


@pytest.mark.parametrize("seconds", [0.001, 0.5, 6, 40])
def test_time_goes_from_left_to_right_in_a_picture_of_one_size(seconds: float) -> None:
    sound = np.concatenate([np.zeros(int(seconds * SAMPLE_RATE_HZ), np.int16), _tone(1000, seconds)])
    shade = _spectrogram(sound)
    assert shade.shape == (64, 320)
    if seconds > 0.1:  # longer than a window
        assert shade[:, :140].mean() < 5 < shade[:, 180:].max()


def test_silence_and_what_is_hardly_louder_are_dark() -> None:
    assert _spectrogram(np.zeros(22_050, np.int16)).max() < 5
    noise = np.random.default_rng(0).integers(-1, 2, 22_050).astype(np.int16)
    assert _spectrogram(noise).mean() < 60 < _spectrogram(noise * 1000).mean()


def test_only_what_changes_the_pictures_changes_their_address() -> None:
    assert ThumbnailSettings(backfill=True).address() == ThumbnailSettings().address()
    assert ThumbnailSettings(height=120).address() != ThumbnailSettings().address()
