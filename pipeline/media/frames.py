"""Decoded pictures: when they are shown, which way is up, and how many bytes they may keep."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nmcl.pipeline.errors import ClipError

if TYPE_CHECKING:
    from av import VideoFrame

KEPT_BYTES = 8 * 2**20
"""A larger picture is scaled down as it arrives: selectors keep dozens. 1080p with 10 bits, and 1440p with 8, are
smaller."""

MAX_GAP_S = 10.0
"""A longer step between the time stamps of consecutive frames is taken for a fault of the file."""


@dataclass(frozen=True)
class TimedFrame:
    """One decoded picture."""

    time_s: float
    """When it is shown, from the beginning of the clip."""
    luma: np.ndarray
    """Brightness as the codec keeps it: shape (height, width), uint8. Not to be written to."""
    picture: Callable[[], np.ndarray]
    """Makes the picture: shape (height, width, 3), uint8, RGB, upright. Costs more than decoding: for few frames."""


class FrameSelector(Protocol):
    """Chooses frames while they stream by. Must be picklable: it is sent to the decoding process."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        """Look at all frames of a clip in order of time, at least one.

        Returns:
            the chosen ones, shape (n_frames, height', width', 3), uint8, RGB, n_frames >= 1; and their times in
            seconds.
        """


class Clock:
    """Turns time stamps into times that only go forward.

    A stamp that is absent, does not go forward or jumps by more than `MAX_GAP_S` counts as one frame's duration, so
    that a clip whose stamps restart or jump is seen to its end.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._offset_s = 0.0
        self._last_s: float | None = None

    def at(self, stamp_s: float | None, n_passed: int = 1) -> float:
        """The time of the next frame in seconds.

        Args:
            stamp_s: what the file says; None for nothing.
            n_passed: frames since the one before, those that were not decoded included.
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
    """A frame as selectors see it. Raises ClipError `no_picture`: its pixels are of a kind that cannot be converted."""
    if frame.width * frame.height <= KEPT_BYTES // 8:  # no picture takes more than 8 bytes a pixel
        return TimedFrame(time_s, _luma(frame), partial(_rgb, frame))
    n_bytes = sum(plane.buffer_size for plane in frame.planes)
    if n_bytes <= KEPT_BYTES:
        return TimedFrame(time_s, _luma(frame), partial(_rgb, frame))
    factor = math.sqrt(KEPT_BYTES / n_bytes)
    width, height = (max(2, int(side * factor) // 2 * 2) for side in (frame.width, frame.height))
    scaled = _reformatted(frame, width=width, height=height, interpolation="AREA")
    return TimedFrame(time_s, _luma(scaled), partial(_rgb, scaled, _orientation(frame)))


def _luma(frame: "VideoFrame") -> np.ndarray:
    """Brightness, without a copy where it is a plane of its own."""
    if not frame.format.name.startswith(_LUMA_FIRST) or frame.format.components[0].bits != 8:
        frame = _reformatted(frame, format="gray")
    plane = frame.planes[0]
    lines = np.asarray(memoryview(plane), np.uint8).reshape(-1, abs(plane.line_size))
    if plane.line_size < 0:  # stored from the bottom line up
        lines = lines[::-1]
    return lines[: frame.height, : frame.width]


_LUMA_FIRST = ("yuv4", "yuvj4", "yuva4", "nv12", "nv21", "gray")


def _rgb(frame: "VideoFrame", orientation: "_Orientation | None" = None) -> np.ndarray:
    rgb = _reformatted(frame, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return (orientation or _orientation(frame)).applied(rgb)


def _reformatted(frame: "VideoFrame", **wanted: Any) -> "VideoFrame":
    import av

    try:
        return frame.reformat(**wanted, threads=1)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        raise ClipError("no_picture", f"pictures of the kind {frame.format.name} cannot be converted") from error


@dataclass(frozen=True)
class _Orientation:
    """How a stored picture becomes upright: transposed, then mirrored left to right, then turned upside down."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def applied(self, picture: np.ndarray) -> np.ndarray:
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        if self.mirrored:
            picture = picture[:, ::-1]
        if self.flipped:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)


def _orientation(frame: "VideoFrame") -> _Orientation:
    """What the display matrix asks for, as ffmpeg's autorotate reads it; turns to the nearest right angle."""
    side_data: Any = frame.side_data
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return _UPRIGHT
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).tolist()
    if not (a or b) or not (c or d):
        return _UPRIGHT
    if abs(b) > abs(a):  # a quarter turn
        return _Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
    return _Orientation(mirrored=a < 0, flipped=d < 0)


_UPRIGHT = _Orientation()
