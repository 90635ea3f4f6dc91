"""Selection of the parts of a picture track that fit the decoding budget.

Work is counted in pixels, never in seconds: the same file gives the same frames on any machine.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media.frames import Clock
from nmcl.pipeline.media.limits import MediaSettings

if TYPE_CHECKING:
    from av import Packet, VideoStream
    from av.container import InputContainer

_HARDER = {
    "hevc": 3,
    "vp9": 2,
    "libdav1d": 2,
    "mjpeg": 2,
    "dnxhd": 2,
    "prores": 3,
    "cfhd": 6,
    "ffv1": 8,
    "apng": 8,
    "png": 8,
    "vvc": 10,
    "jpeg2000": 60,
}
"""Approximate cost per pixel of these codecs relative to H.264; 1 for all others."""

_LEAST_PIXELS = 2**15
"""Minimum cost of a frame, in pixels; smaller pictures count as this many."""

FEW_KEY_FRAMES = 8
"""With fewer key frames in a track, the frames after each are decoded too."""

LEAST_FRAMES = 16
"""Minimum number of frames decoded, however large."""


class TooMuchWork(Exception):
    """A track contains more than its header states, so its parts must be planned from its packets."""


def cost(codec: str, n_pixels: int) -> int:
    """Return the cost of one frame, in pixels of H.264."""
    return max(n_pixels, _LEAST_PIXELS) * _HARDER.get(codec, 1)


def require_size(n_pixels: int, settings: MediaSettings) -> None:
    """Raise ClipError `too_large` if a picture has too many pixels."""
    if n_pixels > settings.max_pixels:
        raise ClipError("too_large", f"{n_pixels:,} pixels a frame; the limit is {settings.max_pixels:,}")


def budget(settings: MediaSettings) -> int:
    """Return the decoding budget of one video, in the unit of `cost`."""
    return settings.budget_megapixels * 10**6


def estimated_frames(container: "InputContainer", picture: "VideoStream", settings: MediaSettings) -> float | None:
    """Return the number of frames within `max_seconds` according to the file's header; None if unknown."""
    container_s = (container.duration or 0) / 10**6
    seconds = float(picture.duration * picture.time_base) if picture.duration and picture.time_base else container_s
    rate = float(picture.average_rate or picture.guessed_rate or 0)
    n_frames = picture.frames or seconds * rate
    if not n_frames:
        return None
    return n_frames * min(1.0, settings.max_seconds / seconds) if seconds > 0 else float(n_frames)


Parts = frozenset[int]
"""Numbers of the packets of a picture track to decode; each stretch begins with a key frame."""


def parts(container: "InputContainer", picture: "VideoStream", frame_s: float, settings: MediaSettings) -> Parts | None:
    """Return the parts of a track to decode within the budget; None for all of it. Reads the file to its end.

    All key frames, or as many of them as the budget allows, evenly spaced; if they are few, as much of the beginning of
    each stretch between them as the budget allows.
    """
    packets = list(_packets(container, picture, frame_s, settings.max_seconds))
    context = picture.codec_context
    n_allowed = max(LEAST_FRAMES, budget(settings) // cost(context.name, context.width * context.height))
    if len(packets) <= n_allowed:
        return None
    keys = [number for number, (is_key, _) in enumerate(packets) if is_key] or [0]
    if len(keys) >= FEW_KEY_FRAMES:
        even = np.linspace(0, len(keys) - 1, min(len(keys), n_allowed)).round().astype(int)
        return Parts(keys[i] for i in even)
    numbers: set[int] = set()
    for key, end in zip(keys, [*keys[1:], len(packets)], strict=True):
        begins = packets[key][1]
        # Pictures shown before their key frame need the previous stretch.
        usable = (i for i in range(key, end) if begins is None or (packets[i][1] or begins) >= begins)
        numbers.update(i for i, _ in zip(usable, range(n_allowed // len(keys)), strict=False))
    return Parts(numbers)


def _packets(
    container: "InputContainer", picture: "VideoStream", frame_s: float, max_seconds: float
) -> Iterator[tuple[bool, int | None]]:
    """Yield for each packet up to `max_seconds` whether it is a key frame, and its time stamp."""
    clock = Clock(frame_s)
    for packet in until_unreadable(container.demux(picture)):
        if not packet.size:
            continue
        stamp = packet.dts if packet.dts is not None else packet.pts
        begin = picture.start_time or 0
        known = stamp is not None and packet.time_base is not None
        if clock.at(float((stamp - begin) * packet.time_base) if known else None) > max_seconds:  # type: ignore[operator]
            return
        yield packet.is_keyframe, packet.pts


def until_unreadable(packets: "Iterator[Packet]") -> "Iterator[Packet]":
    """Yield the packets of a damaged file up to the first that its container cannot read."""
    import av

    try:
        yield from packets
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
