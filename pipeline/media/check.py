"""A check that common codecs are decoded on this machine: a tiny clip of each is written and decoded."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nmcl.pipeline.errors import ClipError, WorkerError
from nmcl.pipeline.media.decode import Request
from nmcl.pipeline.media.limits import MediaSettings
from nmcl.pipeline.media.pool import Decoder
from nmcl.pipeline.media.sound import ffmpeg_program
from nmcl.pipeline.needs import Frames, Sound
from nmcl.pipeline.records import Content
from nmcl.pipeline.scratch import scratch

_SIDE, _FPS, _FRAMES, _RATE_HZ = 64, 10, 5, 48_000
_GREY, _GREY_WITHIN = 180, 20
_LEAST_RMS = 0.05


@dataclass(frozen=True)
class Codecs:
    """Codecs of a clip, with the encoders that write them."""

    name: str
    picture: str
    sound: str
    suffix: str
    options: tuple[tuple[str, str], ...] = ()


CHECKED = (
    Codecs("H.264 and AAC", "libx264", "aac", ".mp4"),
    Codecs("HEVC and MP3", "libx265", "libmp3lame", ".mp4", (("x265-params", "log-level=none"),)),
    Codecs("VP8 and Opus", "libvpx", "libopus", ".webm"),
    Codecs("VP9 and Opus", "libvpx-vp9", "libopus", ".webm"),
    Codecs("AV1 and AAC", "libsvtav1", "aac", ".mp4"),
    Codecs("MPEG-4 and MP3", "mpeg4", "libmp3lame", ".avi"),
)
"""What phones and video sites write."""


def check_codecs(frames: Frames) -> Iterator[tuple[str, str]]:
    """Write and decode a clip of each codec. Yields its name, and what is wrong; empty if it was decoded right.

    Args:
        frames: Which frames are decoded, and their preprocessing.

    Raises:
        StoreError: If no temporary folder can be made.
    """
    sound = Sound()
    with scratch("codecs") as folder:
        paths = {codecs: folder / f"{i}{codecs.suffix}" for i, codecs in enumerate(CHECKED)}
        problems = {codecs: _written(paths[codecs], codecs) for codecs in CHECKED}
        written = [codecs for codecs in CHECKED if not problems[codecs]]
        try:
            with Decoder(MediaSettings(workers=1, timeout_s=30)) as decoder:
                contents = decoder.contents(Request(paths[codecs], (frames, sound)) for codecs in written)
                for codecs, content in zip(written, contents, strict=True):
                    problems[codecs] = _problem(content, frames, sound)
        except WorkerError as error:
            problems |= {codecs: str(error) for codecs in written}
        yield from ((codecs.name, problem) for codecs, problem in problems.items())


def _problem(content: Content | ClipError, frames: Frames, sound: Sound) -> str:
    if isinstance(content, ClipError):
        return str(content)
    if content.problems:
        return "; ".join(str(problem) for problem in content.problems.values())
    pictures, waveform = content.clip(frames).frames, content.clip(sound).waveform
    if pictures is None or abs(float(np.mean(pictures)) - _GREY) > _GREY_WITHIN:
        return "the picture is not the one that was written"
    if waveform is None or float(np.sqrt(np.mean((np.asarray(waveform) / 32768.0) ** 2))) < _LEAST_RMS:
        return "the sound is not the one that was written"
    return ""


def _written(path: Path, codecs: Codecs) -> str:
    """Write a clip of one grey and one tone. Returns why it could not be written; empty if it was."""
    import av

    os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder prints its settings
    tone = np.sin(np.arange(_RATE_HZ * _FRAMES // _FPS) * (2 * np.pi * 440 / _RATE_HZ))
    pixels = np.full((_SIDE, _SIDE, 3), _GREY, np.uint8)
    try:
        with av.open(str(path), "w") as out:
            picture: Any = out.add_stream(codecs.picture, rate=_FPS, options=dict(codecs.options))
            picture.width = picture.height = _SIDE
            picture.pix_fmt = "yuv420p"
            sound: Any = out.add_stream(codecs.sound, rate=_RATE_HZ, layout="mono")
            for i in range(_FRAMES):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, _FPS)
                out.mux(picture.encode(frame))
            out.mux(picture.encode(None))
            samples = av.AudioFrame.from_ndarray((tone[None] * 9_000).astype(np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = _RATE_HZ, 0
            out.mux(sound.encode(samples))
            out.mux(sound.encode(None))
    except (av.FFmpegError, ValueError) as error:
        return f"not tried, as no clip could be written ({type(error).__name__}: {error})"
    return ""


def ffmpeg_version() -> str:
    """Return the version of the ffmpeg program, which decodes soundtracks that PyAV cannot.

    Raises:
        OSError: If it is not there or does not run.
    """
    program = ffmpeg_program()
    done = subprocess.run(
        [program, "-hide_banner", "-version"], capture_output=True, text=True, timeout=20, check=False
    )
    found = re.match(r"ffmpeg version (\S+)", done.stdout)
    if done.returncode or not found:
        raise OSError(f"{program} is not a working ffmpeg: it ended with {done.returncode}")
    return f"{found[1]}, {program}"
