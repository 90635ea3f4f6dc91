"""Decoding untrusted media: the only door to OpenCV's, PyAV's and ffmpeg's decoders.

A file is opened in a child process that can be killed, and comes back as one Clip, picture and sound together, or as
one ClipError. A child that hangs or crashes is replaced; the file that did it is the only one that fails.
"""

import os
import resource
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import process
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge, Gt

from pipeline.errors import ClipError
from pipeline.records import Clip

SAMPLE_RATE_HZ = 22_050
"""Of every waveform (paper, section 4.2.2)."""

CODE_VERSION = 1
"""Goes into the address of what is made from frames and waveforms: raise it when decoding gives other values."""


@dataclass(frozen=True)
class MediaSettings:
    """Limits for one file. They guard the run; only `max_seconds` and `max_pixels` can change a vector."""

    timeout_s: Annotated[float, Gt(0)] = 60.0
    """Wall-clock time for one file; then its process is killed."""
    max_seconds: Annotated[float, Gt(0)] = 180.0
    """Only the beginning of a longer video is looked at."""
    max_pixels: Annotated[int, Ge(1)] = 4096 * 2304
    """A larger picture is refused: it would need gigabytes."""
    memory_mb: Annotated[int, Ge(256)] = 4096
    """Address space of one decoding process."""
    workers: Annotated[int, Ge(0)] = 0
    """Decoding processes; 0 for one a core."""


@dataclass(frozen=True)
class TimedFrame:
    """One decoded picture."""

    time_s: float
    """When it is shown, from the beginning of the clip."""
    pixels: np.ndarray
    """Shape (height, width, 3), uint8, BGR, upright."""


class FrameSelector(Protocol):
    """Chooses frames while they stream by. Must be picklable: it is sent to the decoding process."""

    def __call__(self, frames: Iterable[TimedFrame]) -> tuple[np.ndarray, tuple[float, ...]]:
        """Look at all frames of a clip in order of time, at least one.

        Returns:
            the chosen ones, shape (n_frames, height', width', 3), uint8, RGB, n_frames >= 1; and their times in
            seconds.
        """


@dataclass(frozen=True)
class Request:
    """What is wanted of one file."""

    path: Path
    frames: FrameSelector | None = None
    """None: the picture is not decoded."""
    waveform: bool = False


def decode(request: Request, settings: MediaSettings) -> Clip:
    """Decode one file in this process.

    Returns:
        the clip; its waveform is None where the file has no soundtrack, or one that cannot be decoded: the picture
        is still worth having, and `sound_remark` tells.

    Raises:
        ClipError: `missing`, `unreadable` (no decoder makes sense of it), `no_picture` (no video stream, or none of
            its frames decodes), `too_large`. `Decoder` adds `timeout` and `crashed`.
    """
    has_picture, has_sound = _probe(request.path)
    frames: np.ndarray | None = None
    times_s: tuple[float, ...] = ()
    if request.frames is not None:
        if not has_picture:
            raise ClipError("no_picture", "the file has no video stream")
        frames, times_s = request.frames(_stream_frames(request.path, settings))
    waveform, remark = None, None
    if request.waveform:
        waveform, remark = _sound(request.path, settings) if has_sound else (None, "no soundtrack")
    return Clip(frames=frames, frame_times_s=times_s, waveform=waveform, sound_remark=remark)


def _probe(path: Path) -> tuple[bool, bool]:
    """Whether the file has a video and an audio stream that this machine can decode."""
    import av

    if not path.is_file():
        raise ClipError("missing", "there is no such file")
    try:
        with av.open(str(path), options=_LOCAL_FILES_ONLY, metadata_errors="replace") as container:
            return bool(_decodable(container.streams.video)), bool(_decodable(container.streams.audio))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError("unreadable", f"not a media file that FFmpeg knows ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


_LOCAL_FILES_ONLY = {"protocol_whitelist": "file"}
"""So that a playlist in disguise reaches neither the network nor other files through nested protocols."""


def _decodable(streams: Iterable[object]) -> list[object]:
    """Streams with a decoder; attached cover pictures do not count as video."""
    return [s for s in streams if s.codec_context is not None and not _is_cover(s)]  # type: ignore[attr-defined]


def _is_cover(stream: object) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)  # type: ignore[attr-defined]


def _stream_frames(path: Path, settings: MediaSettings) -> Iterator[TimedFrame]:
    """All frames up to `max_seconds`."""
    import cv2

    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise ClipError("no_picture", "OpenCV cannot open the video stream")
        n_pixels = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if n_pixels > settings.max_pixels:
            raise ClipError("too_large", f"{n_pixels:,} pixels a frame; the limit is {settings.max_pixels:,}")
        n_frames = 0
        while True:
            ok, pixels = capture.read()
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if not ok or time_s > settings.max_seconds:
                break
            n_frames += 1
            yield TimedFrame(time_s, pixels)
        if n_frames == 0:
            raise ClipError("no_picture", "no frame of the video stream can be decoded")
    finally:
        capture.release()


def _sound(path: Path, settings: MediaSettings) -> tuple[np.ndarray | None, str | None]:
    """The first soundtrack as (n_samples,) int16, mono, 22,050 Hz; or None, and why."""
    import ffmpeg
    import imageio_ffmpeg

    stream = ffmpeg.input(f"file:{path}", protocol_whitelist="file", t=settings.max_seconds, threads=1)
    stream = stream.audio.output(
        "pipe:", format="s16le", acodec="pcm_s16le", ac=1, ar=SAMPLE_RATE_HZ, t=settings.max_seconds
    ).global_args("-nostdin", "-loglevel", "error", "-timelimit", str(int(settings.timeout_s) + 1))
    try:
        pcm, _ = stream.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, capture_stderr=True)
    except ffmpeg.Error as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return None, f"the soundtrack cannot be decoded: {said[-1] if said else 'ffmpeg failed'}"
    samples = np.frombuffer(pcm, dtype="<i2")
    return (samples, None) if samples.size else (None, "the soundtrack holds no sample")


def _start_child(memory_mb: int) -> None:
    """One thread a decoder, quiet, bounded memory: many small files are decoded side by side."""
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "protocol_whitelist;file"
    os.environ["OPENCV_LOG_LEVEL"] = os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
    limit = memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    import cv2

    cv2.setNumThreads(1)


class Decoder:
    """A pool of decoding processes.

    Use as a context manager; `clips` may be called any number of times.
    """

    def __init__(self, settings: MediaSettings) -> None:
        self.settings = settings
        self.workers = settings.workers or os.cpu_count() or 1

    def __enter__(self) -> "Decoder":
        from pebble import ProcessPool

        self._pool = ProcessPool(
            max_workers=self.workers,
            context=get_context("spawn"),  # a fork of a process with running threads may hang
            initializer=_start_child,
            initargs=(self.settings.memory_mb,),
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def clips(self, requests: Iterable[Request]) -> Iterator[Clip | ClipError]:
        """Decode files side by side; results come in the order of the requests, a few ahead of the reader."""
        requests = iter(requests)
        ahead: list[object] = []
        for request in requests:
            ahead.append(self._pool.schedule(decode, args=(request, self.settings), timeout=self.settings.timeout_s))
            if len(ahead) > 4 * self.workers:
                yield self._result(ahead.pop(0))
        while ahead:
            yield self._result(ahead.pop(0))

    def _result(self, future: object) -> Clip | ClipError:
        from pebble import ProcessExpired

        try:
            return future.result()  # type: ignore[attr-defined, no-any-return]
        except ClipError as error:
            return error
        except FutureTimeoutError:
            return ClipError("timeout", f"not decoded within {self.settings.timeout_s:g} s")
        except MemoryError:
            return ClipError("too_large", f"needs more than {self.settings.memory_mb} MiB to decode")
        except (ProcessExpired, process.BrokenProcessPool) as error:
            return ClipError("crashed", f"the decoder died on it ({error})")
