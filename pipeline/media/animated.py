"""Decoder of animated WebP, which the FFmpeg inside PyAV does not support."""

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import work
from nmcl.pipeline.media.frames import Clock
from nmcl.pipeline.media.limits import MediaSettings
from nmcl.pipeline.needs import TimedFrame


def is_webp(file: BinaryIO) -> bool:
    """Return whether an open file starts like WebP; the position is reset to its beginning."""
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def webp_frames(file: BinaryIO, settings: MediaSettings) -> Iterator[TimedFrame]:
    """Yield the file's pictures up to the first damage, `max_seconds` or the budget.

    Raises:
        ClipError: `no_picture`, `too_large`.
    """
    n_frames = 0
    try:
        with Image.open(file, formats=["WEBP"]) as image:
            n_pixels = image.width * image.height
            work.require_size(n_pixels, settings)
            n_allowed = max(work.LEAST_FRAMES, work.budget(settings) // work.cost("webp", n_pixels))
            stamp_s, clock = 0.0, Clock(0.1)
            for picture in ImageSequence.Iterator(image):
                time_s = clock.at(stamp_s)
                if time_s > settings.max_seconds or n_frames == n_allowed:
                    return
                rgb = picture.convert("RGB")
                rgb.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
                yield TimedFrame(time_s, np.asarray(rgb.convert("L")), partial(np.asarray, rgb))
                n_frames += 1
                stamp_s += picture.info.get("duration", 0) / 1000
    except (UnidentifiedImageError, OSError, EOFError, SyntaxError, ValueError) as error:
        if n_frames == 0:
            raise ClipError("no_picture", "no picture of the WebP file can be decoded") from error


_LONGEST_SIDE = 1600
"""Larger pictures are scaled down as they arrive, because selectors keep dozens."""
