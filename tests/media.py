"""Small real videos, encoded on the spot."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from nmcl.pipeline.media import MediaSettings, Request, TimedFrame, decode
from nmcl.pipeline.records import Clip

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


@dataclass(frozen=True)
class AllFrames:
    """A selector that hands over every frame, RGB."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        kept = list(frames)
        return np.stack([frame.picture() for frame in kept]), tuple(frame.time_s for frame in kept)


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


def decoded(request: Request, settings: MediaSettings | None = None) -> Clip:
    """The clip of a file that can be used."""
    outcome = decode(request, settings or MediaSettings())
    assert isinstance(outcome, Clip), outcome
    return outcome


@dataclass(frozen=True)
class BrokenSelector:
    """A choice of frames with a bug, in the decoding process."""

    min_level: int = 0
    """Clips that are darker are chosen from without a bug."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        """See `nmcl.pipeline.media.FrameSelector`."""
        pictures = [frame.picture() for frame in frames]
        if max(picture.max() for picture in pictures) >= self.min_level:
            raise ZeroDivisionError("a bug")
        return np.stack(pictures[:1]), (0.0,)
