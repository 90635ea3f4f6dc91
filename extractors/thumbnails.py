"""Small key frames for people: what is decoded for them, and their size. No vector depends on them."""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Interval

from nmcl.extractors.keyframes import CODE_VERSION as KEYFRAMES_CODE_VERSION
from nmcl.extractors.keyframes import KeyFrames
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.needs import Frames

CODE_VERSION = 1
"""Version of the code, part of the address of thumbnails; raise it when the same videos give other pictures."""
KEY_FRAMES = 8
"""Key frames that thumbnails are chosen from: as many as feature sets read by default, so that they are selected once
for both."""


@dataclass(frozen=True)
class ThumbnailSettings:
    """Frozen settings of the small key frames that pages show of each video."""

    images: Annotated[int, Interval(ge=0, le=KEY_FRAMES), Reference(3)] = 3
    """Maximum number of thumbnails per video; 0 for none."""
    height: Annotated[int, Interval(ge=32, le=480), Reference(160)] = 160
    """Maximum height in pixels; the width is at most 16/9 of it. Smaller pictures are not enlarged."""
    quality: Annotated[int, Interval(ge=10, le=95), Reference(75)] = 75
    """JPEG quality."""
    backfill: Annotated[bool, Unhashed()] = False
    """Whether `extract` decodes videos again whose vectors exist and that only lack thumbnails."""

    @property
    def need(self) -> Frames:
        """The key frames that thumbnails are chosen from."""
        return Frames(KeyFrames(KEY_FRAMES), Small(self.height))

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
        self.need = settings.need
        self.backfill = settings.backfill

    def encoded(self, frames: np.ndarray) -> tuple[list[int], list[bytes]]:
        """Return positions among the key frames (n, height + 1, width, 3), spread evenly, and their JPEG files."""
        even = np.linspace(0, len(frames) - 1, min(self._settings.images, len(frames)))
        chosen = [int(i) for i in np.unique(even.round())]
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
        files = [cv2.imencode(".jpg", without_margin(frames[i])[:, :, ::-1], quality)[1] for i in chosen]
        return chosen, [file.tobytes() for file in files]
