"""Small real videos, encoded on the spot."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import MediaSettings, Request, decode
from nmcl.pipeline.needs import Frames, FrameSelector, Sound, Stream, TimedFrame
from nmcl.pipeline.records import Content

RATE_HZ = 22_050


def write_video(
    path: Path, frames: np.ndarray, fps: int = 10, sound: np.ndarray | None = None, codec: str = "libx264"
) -> Path:
    """Encode frames (n, height, width, 3) uint8 RGB and, if given, sound (n_samples,) int16 at 22,050 Hz."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream(codec, rate=fps, options={"crf": "10"})
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        voice = container.add_stream("aac", rate=RATE_HZ, layout="mono") if sound is not None else None
        for pixels in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(picture.encode(None))
        if voice is not None:
            block = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
            block.sample_rate = RATE_HZ
            container.mux(voice.encode(block))
            container.mux(voice.encode(None))
    return path


def shades(levels: list[int], frames_each: int, size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """Frames of constant grey levels, each level shown for some frames: a clip with a cut between any two."""
    pictures = [np.full((*size, 3), level, np.uint8) for level in levels for _ in range(frames_each)]
    return np.stack(pictures)


def tone(frequency_hz: float, seconds: float) -> np.ndarray:
    """A sine at half of full scale: (n_samples,) int16 at 22,050 Hz."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (16_000 * np.sin(2 * np.pi * frequency_hz * t)).astype(np.int16)


class AtOnce(ABC):
    """Base of selectors that are written as a function of all frames of a clip."""

    def start(self) -> "_Kept":
        """See `nmcl.pipeline.needs.FrameSelector`."""
        return _Kept(self)

    @abstractmethod
    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        """Return the selected frames of all frames of a clip."""


class _Kept:
    def __init__(self, selector: AtOnce) -> None:
        self._selector = selector
        self._frames: list[TimedFrame] = []

    def add(self, frame: TimedFrame) -> None:
        self._frames.append(frame)

    def chosen(self) -> Sequence[TimedFrame]:
        return self._selector(self._frames)


@dataclass(frozen=True)
class AllFrames(AtOnce):
    """A selector that returns every frame."""

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        return frames


@dataclass(frozen=True)
class AsDecoded:
    """No preprocessing."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return picture


def request(
    path: Path,
    selector: FrameSelector | None = None,
    waveform: bool = False,
    sha256: str = "",
    n_bytes: int | None = None,
) -> Request:
    """Request of the frames that a selector chooses, as they are decoded, and of the sound."""
    frames = [Frames(selector, AsDecoded())] if selector else []
    return Request(path, (*frames, *([Sound()] if waveform else [])), sha256, n_bytes)


@dataclass(frozen=True)
class Decoded:
    """What a request with one kind of frames and of sound gives."""

    frames: np.ndarray | None
    frame_times_s: tuple[float, ...]
    waveform: np.ndarray | None
    problems: Mapping[Stream, ClipError]


def view(outcome: Content | ClipError) -> Decoded:
    """What the only needs of a request gave."""
    assert isinstance(outcome, Content), outcome
    pictures = next(iter(outcome.pictures.values()), None)
    frames, times_s = (pictures.frames, pictures.times_s) if pictures else (None, ())
    return Decoded(frames, times_s, next(iter(outcome.sounds.values()), None), outcome.problems)


def run_ffmpeg(*arguments: object, stdin: bytes | None = None) -> bytes:
    """What the ffmpeg program writes to its output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def rgb_by_ffmpeg(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """All pictures of a file as ffmpeg shows them: shape (n, height, width, 3)."""
    pixels = run_ffmpeg("-i", path, "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "rgb24", "-sws_flags", "bicubic", "-")
    return np.frombuffer(pixels, np.uint8).reshape(-1, *shape[1:])


def decoded(request: Request, settings: MediaSettings | None = None) -> Decoded:
    """The content of a file that can be used."""
    return view(decode(request, settings or MediaSettings()))


@dataclass(frozen=True)
class BrokenSelector(AtOnce):
    """A choice of frames with a bug, in the decoding process."""

    min_level: int = 0
    """Clips that are darker are chosen from without a bug."""

    def __call__(self, frames: Sequence[TimedFrame]) -> Sequence[TimedFrame]:
        """See `AtOnce`."""
        if max(frame.picture().max() for frame in frames) >= self.min_level:
            raise ZeroDivisionError("a bug")
        return frames[:1]
