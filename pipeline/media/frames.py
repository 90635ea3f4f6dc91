"""Decoded pictures: display times, selection, orientation, and memory limits."""

import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.needs import Frames, TimedFrame
from nmcl.pipeline.records import Pictures

if TYPE_CHECKING:
    from av import VideoFrame

KEPT_BYTES = 8 * 2**20
"""Larger pictures are scaled down as they arrive, because selectors keep dozens. 1080p with 10 bits, and 1440p with 8,
are smaller."""

MAX_GAP_S = 10.0
"""A larger step between the time stamps of consecutive frames counts as a fault of the file."""


def selected(needs: Iterable[Frames], frames: Iterable[TimedFrame]) -> dict[Frames, Pictures]:
    """Select and preprocess the frames of a clip for several needs in one pass.

    Args:
        frames: All frames of the clip in order of time, at least one.
    """
    needs = list(needs)
    selections = {need.selector: need.selector.start() for need in needs}
    for frame in frames:
        for selection in selections.values():
            selection.add(frame)
    found: dict[Frames, Pictures] = {}
    for selector, selection in selections.items():
        chosen = selection.chosen()
        pictures: dict[Frames, list[np.ndarray]] = {need: [] for need in needs if need.selector == selector}
        for frame in chosen:
            rgb = frame.picture()
            for need, own in pictures.items():
                own.append(need.picture(rgb))
        times_s = tuple(frame.time_s for frame in chosen)
        found |= {need: Pictures(np.stack(own), times_s) for need, own in pictures.items()}
    return found


class Clock:
    """Converts time stamps to monotonic times.

    A stamp that is absent, does not increase or jumps by more than `MAX_GAP_S` counts as one frame's duration, so
    that a clip whose stamps restart or jump is read to its end.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._offset_s = 0.0
        self._last_s: float | None = None

    def at(self, stamp_s: float | None, n_passed: int = 1) -> float:
        """Return the time of the next frame in seconds.

        Args:
            stamp_s: Time stamp in the file; None if absent.
            n_passed: Frames since the previous one, including those that were not decoded.
        """
        if self._last_s is None:
            usual = 0.0
            last_s = -math.ulp(0.0)
        else:
            usual = self._last_s + n_passed * self._frame_s
            last_s = self._last_s
        time_s = usual if stamp_s is None else stamp_s + self._offset_s
        if not last_s < time_s <= usual + MAX_GAP_S:
            time_s = usual
            self._offset_s = 0.0 if stamp_s is None else usual - stamp_s
        self._last_s = time_s
        return time_s


def timed(frame: "VideoFrame", time_s: float) -> TimedFrame:
    """Return a frame as selectors see it; raise ClipError `no_picture` if its pixel format cannot be converted."""
    is_small = frame.width * frame.height <= KEPT_BYTES // 8  # no picture takes more than 8 bytes a pixel
    if is_small or (n_bytes := sum(plane.buffer_size for plane in frame.planes)) <= KEPT_BYTES:
        return TimedFrame(time_s, _luma(frame), partial(_rgb, frame))
    factor = math.sqrt(KEPT_BYTES / n_bytes)
    width, height = (max(2, int(side * factor) // 2 * 2) for side in (frame.width, frame.height))
    scaled = _reformatted(frame, width=width, height=height, interpolation="AREA")
    return TimedFrame(time_s, _luma(scaled), partial(_rgb, scaled, _orientation(frame)))


def _luma(frame: "VideoFrame") -> np.ndarray:
    """Return the brightness, without a copy if it is a plane of its own."""
    if not frame.format.name.startswith(_LUMA_FIRST) or frame.format.components[0].bits != 8:
        frame = _reformatted(frame, format="gray")
    plane = frame.planes[0]
    lines = np.asarray(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
    if plane.line_size < 0:  # stored bottom line first
        lines = lines[::-1]
    return lines[: frame.height, : frame.width]


_LUMA_FIRST = ("yuv4", "yuvj4", "yuva4", "nv12", "nv21", "gray")


def _rgb(frame: "VideoFrame", orientation: "_Orientation | None" = None) -> np.ndarray:
    rgb = _reformatted(frame, format="rgb24", interpolation="BICUBIC").to_ndarray()
    transposed, mirrored, flipped = orientation or _orientation(frame)
    rgb = rgb.swapaxes(0, 1) if transposed else rgb
    return np.ascontiguousarray(rgb[:: -1 if flipped else 1, :: -1 if mirrored else 1])


def _reformatted(frame: "VideoFrame", **wanted: Any) -> "VideoFrame":
    import av

    try:
        return frame.reformat(**wanted, threads=1)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        raise ClipError("no_picture", f"pictures of the kind {frame.format.name} cannot be converted") from error


_Orientation = tuple[bool, bool, bool]
"""Whether to transpose a stored picture, then mirror it left to right, then flip it upside down, to make it upright."""


def _orientation(frame: "VideoFrame") -> _Orientation:
    """Return the orientation from the display matrix, as in ffmpeg's autorotate, rounded to the nearest right angle."""
    side_data: Any = frame.side_data
    matrix = side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = (1, 0, 0, 0, 1) if matrix is None else np.frombuffer(matrix, np.int32).tolist()
    if not (a or b) or not (c or d):
        return False, False, False
    is_quarter_turn = abs(b) > abs(a)
    return (True, c < 0, b < 0) if is_quarter_turn else (False, a < 0, d < 0)
