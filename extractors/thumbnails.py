"""Small pictures for people: key frames and a spectrogram. No vector depends on them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Interval

from nmcl.extractors.keyframes import CODE_VERSION as KEYFRAMES_CODE_VERSION
from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.spectrogram import POWER_FLOOR, mel_bands, power_spectrogram
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.needs import Frames, Sound

CODE_VERSION = 1
"""Version of the code, part of the address of thumbnails; raise it when the same videos give other pictures."""
KEY_FRAMES = 8
"""Key frames that thumbnails are chosen from: as many as feature sets read by default, so that they are selected once
for both."""
BANDS = 64
"""Mel bands of a spectrogram: its height in pixels."""
WIDTH = 320
"""Width of a spectrogram in pixels, however long the sound is."""
RANGE_DB = 60.0
"""Range of the colours, below the loudest value of the sound."""
QUIET_DB = -20.0
"""Level of the brightest colour of a sound that is quieter, so that noise next to silence stays dark."""


@dataclass(frozen=True)
class ThumbnailSettings:
    """Frozen settings of the small pictures that pages show of each video: key frames and a spectrogram."""

    images: Annotated[int, Interval(ge=0, le=KEY_FRAMES), Reference(3)] = 3
    """Maximum number of key frames per video; 0 for no thumbnails at all."""
    height: Annotated[int, Interval(ge=32, le=480), Reference(160)] = 160
    """Maximum height in pixels; the width is at most 16/9 of it. Smaller pictures are not enlarged."""
    quality: Annotated[int, Interval(ge=10, le=95), Reference(75)] = 75
    """JPEG quality."""
    backfill: Annotated[bool, Unhashed()] = False
    """Whether `extract` decodes videos again whose vectors exist and that only lack thumbnails."""

    def address(self) -> dict[str, object]:
        """Return everything that decides the pictures besides the decoded video, as JSON values."""
        return {**hashed(self), "code_version": CODE_VERSION, "keyframes_version": KEYFRAMES_CODE_VERSION}


@dataclass(frozen=True)
class Small:
    """Scale a picture down to fit, and place it in the upper left corner of an array of one shape for all pictures.

    The first pixel of one more row holds the size of the picture, so that its margin can be removed again.
    """

    height: int
    """Maximum height in pixels."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Return an array (height + 1, width, 3), uint8, for a picture (h, w, 3) of any size. See `without_margin`."""
        width = round(self.height * 16 / 9)
        h, w = picture.shape[:2]
        if (scale := min(self.height / h, width / w)) < 1:
            h, w = max(1, round(h * scale)), max(1, round(w * scale))
            picture = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        canvas = np.zeros((self.height + 1, width, 3), np.uint8)
        canvas[:h, :w] = picture
        canvas[-1, 0] = h // 256, h % 256, w // 256
        canvas[-1, 1, 0] = w % 256
        return canvas


def without_margin(canvas: np.ndarray) -> np.ndarray:
    """Return the picture that `Small` placed, shape (h, w, 3), uint8, RGB."""
    (h_high, h_low, w_high), w_low = canvas[-1, 0].tolist(), int(canvas[-1, 1, 0])
    return canvas[: 256 * h_high + h_low, : 256 * w_high + w_low]


class Thumbnailer:
    """Makes the thumbnails of a clip; see `nmcl.pipeline.stages.thumbnails.Encoder`."""

    def __init__(self, settings: ThumbnailSettings) -> None:
        self._settings = settings
        self.frames = Frames(KeyFrames(KEY_FRAMES), Small(settings.height))
        self.sound = Sound()
        self.backfill = settings.backfill

    def encoded(self, frames: np.ndarray) -> tuple[list[int], list[bytes]]:
        """Return positions among the key frames (n, height + 1, width, 3), spread evenly, and their JPEG files."""
        even = np.linspace(0, len(frames) - 1, min(self._settings.images, len(frames)))
        chosen = [int(i) for i in np.unique(even.round())]
        return chosen, [self._jpeg(without_margin(frames[i])[:, :, ::-1]) for i in chosen]

    def spectrogram(self, waveform: np.ndarray) -> bytes:
        """Return the JPEG file of a mel spectrogram: time from left to right, low tones at the bottom.

        Args:
            waveform: See `nmcl.extractors.spectrogram.power_spectrogram`.
        """
        power = power_spectrogram(waveform) @ self._bands.T
        decibel = 10 * np.log10(np.maximum(power, POWER_FLOOR)).T[::-1]
        top = max(float(decibel.max()), QUIET_DB)
        shade = np.clip((decibel - top) / RANGE_DB + 1, 0, 1).astype(np.float32)
        method = cv2.INTER_AREA if shade.shape[1] > WIDTH else cv2.INTER_LINEAR
        shade = cv2.resize(shade, (WIDTH, BANDS), interpolation=method)
        return self._jpeg(cv2.applyColorMap((255 * shade).round().astype(np.uint8), cv2.COLORMAP_MAGMA))

    @cached_property
    def _bands(self) -> np.ndarray:
        return mel_bands(BANDS)

    def _jpeg(self, picture: np.ndarray) -> bytes:
        """Return the file of a picture (height, width, 3), uint8, BGR."""
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        return cv2.imencode(".jpg", picture, quality)[1].tobytes()
