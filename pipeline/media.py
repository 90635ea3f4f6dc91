"""Decoding untrusted media: the only door to PyAV's and ffmpeg's decoders.

A file is opened in a child process that can be killed, and comes back as one Clip, picture and sound together, or as
one ClipError. A child that hangs or crashes is replaced; the file that did it is the only one that fails.
"""

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import process
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import numpy as np
from annotated_types import Ge, Gt

from pipeline.errors import ClipError
from pipeline.records import Clip

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler, AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer

S = TypeVar("S", "AudioStream", "VideoStream")

SAMPLE_RATE_HZ = 22_050
"""Of every waveform (paper, section 4.2.2)."""

AHEAD = 32
"""Clips that wait decoded while a network works on those before: some 50 MB."""

CODE_VERSION = 2
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
    max_fetch_mb: Annotated[int, Ge(1)] = 1024
    """A larger file of a crawl on an object store is not fetched."""


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


@dataclass(frozen=True)
class Request:
    """What is wanted of one file."""

    path: Path
    frames: FrameSelector | None = None
    """None: the picture is not decoded."""
    waveform: bool = False


def decode(request: Request, settings: MediaSettings) -> Clip:
    """Decode one file in this process, picture and sound in one pass.

    Returns:
        the clip; its waveform is None where the file has no soundtrack, or one that cannot be decoded: the picture
        is still worth having, and `sound_remark` tells.

    Raises:
        ClipError: `missing`, `unreadable` (no decoder makes sense of it), `no_picture` (no video stream, or none of
            its frames decodes), `too_large`. `Decoder` adds `timeout` and `crashed`.
    """
    with _opened(request.path) as container:
        picture, sound = _first(container.streams.video), _first(container.streams.audio)
        if request.frames is not None and picture is None:
            raise ClipError("no_picture", "the file has no video stream")
        visit = _Visit(container, picture if request.frames else None, sound if request.waveform else None, settings)
        frames, times_s = request.frames(visit.frames()) if request.frames else (None, ())
        waveform, remark = visit.waveform() if request.waveform else (None, None)
    if remark and sound is not None:
        waveform, remark = _sound_by_ffmpeg(request.path, settings)
    return Clip(frames=frames, frame_times_s=times_s, waveform=waveform, sound_remark=remark)


@contextmanager
def _opened(path: Path) -> "Iterator[InputContainer]":
    import av

    if not path.is_file():
        raise ClipError("missing", "there is no such file")
    if not path.stat().st_size:
        raise ClipError("unreadable", "an empty file")
    try:
        container = av.open(str(path), options=_LOCAL_FILES_ONLY, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClipError("unreadable", f"not a media file that FFmpeg knows ({reason})") from error
    with container:
        yield container


_LOCAL_FILES_ONLY = {"protocol_whitelist": "file"}
"""So that a playlist in disguise reaches neither the network nor other files through nested protocols."""


def _first(streams: "Iterable[S]") -> "S | None":
    """The first stream that has a decoder; attached cover pictures do not count as video."""
    from av.stream import Disposition

    decodable = (s for s in streams if s.codec_context is not None and not s.disposition & Disposition.attached_pic)
    return next(decodable, None)


class _Visit:
    """One pass over an open file: frames are handed out while the sound that lies between them is kept."""

    def __init__(
        self,
        container: "InputContainer",
        picture: "VideoStream | None",
        sound: "AudioStream | None",
        settings: MediaSettings,
    ) -> None:
        self._settings = settings
        self._picture = picture
        self._sound = _Sound(settings.max_seconds) if sound else None
        streams = [stream for stream in (picture, sound) if stream]
        for stream in streams:
            stream.codec_context.thread_count = 1
        self._packets = _until_unreadable(container.demux(streams)) if streams else iter(())

    def frames(self) -> Iterator[TimedFrame]:
        """All frames up to `max_seconds`. Raises ClipError `no_picture`, `too_large`."""
        n_frames = 0
        for frame in self._decoded_frames():
            if frame.width * frame.height > self._settings.max_pixels:
                limit = f"the limit is {self._settings.max_pixels:,}"
                raise ClipError("too_large", f"{frame.width * frame.height:,} pixels a frame; {limit}")
            time_s = self._time_s(frame, n_frames)
            if time_s > self._settings.max_seconds:
                break
            n_frames += 1
            yield TimedFrame(time_s, _luma(frame), partial(_rgb, frame))
        if n_frames == 0:
            raise ClipError("no_picture", "no frame of the video stream can be decoded")

    def waveform(self) -> tuple[np.ndarray | None, str | None]:
        """The first soundtrack as (n_samples,) int16, mono, 22,050 Hz; or None, and why."""
        if self._sound is None:
            return None, "no soundtrack"
        for packet in self._packets:
            if self._sound.is_full:
                break
            self._hear(packet)
        return self._sound.samples()

    def _decoded_frames(self) -> "Iterator[VideoFrame]":
        for packet in self._packets:
            if packet.stream is self._picture:
                yield from _decoded(packet)
            else:
                self._hear(packet)

    def _hear(self, packet: "Packet") -> None:
        if self._sound and packet.stream is not self._picture:
            for frame in _decoded(packet):
                self._sound.add(frame)

    def _time_s(self, frame: "VideoFrame", index: int) -> float:
        picture = self._picture
        assert picture is not None
        if frame.time is None:
            return index / float(picture.guessed_rate or picture.average_rate or 25)
        return float(frame.time - (picture.start_time or 0) * (picture.time_base or 0))


def _until_unreadable(packets: "Iterator[Packet]") -> "Iterator[Packet]":
    """The packets of a damaged file up to where its container makes no sense any more."""
    import av

    with suppress(av.FFmpegError):
        yield from packets


def _decoded(packet: "Packet") -> "list[Any]":
    """The frames of a packet; none of a damaged one."""
    import av

    try:
        return packet.decode()
    except (av.FFmpegError, EOFError):
        return []


def _luma(frame: "VideoFrame") -> np.ndarray:
    """Brightness, without a copy where it is a plane of its own."""
    if not frame.format.name.startswith(_LUMA_FIRST) or frame.format.components[0].bits != 8:
        frame = frame.reformat(format="gray", threads=1)
    plane = frame.planes[0]
    lines = np.asarray(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return lines[: frame.height, : frame.width]


_LUMA_FIRST = ("yuv4", "yuvj4", "yuva4", "nv12", "nv21", "gray")


def _rgb(frame: "VideoFrame") -> np.ndarray:
    rgb = frame.reformat(format="rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
    return np.rot90(rgb, round(frame.rotation / 90)) if frame.rotation else rgb


class _Sound:
    """Collects a soundtrack as mono 16-bit samples of 22,050 Hz."""

    def __init__(self, max_seconds: float) -> None:
        self._room = int(max_seconds * SAMPLE_RATE_HZ)
        self._blocks: list[np.ndarray] = []
        self._kind: object = None
        self._resampler: AudioResampler | None = None

    @property
    def is_full(self) -> bool:
        """Whether more would be beyond `max_seconds`."""
        return self._room <= 0

    def add(self, frame: "AudioFrame") -> None:
        """Take what comes next. Rate and channels may change on the way."""
        import av

        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            self._flush()
            self._kind, self._resampler = kind, av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
        assert self._resampler is not None
        self._keep(self._resampler.resample(frame))

    def samples(self) -> tuple[np.ndarray | None, str | None]:
        """What was collected; or None, and why."""
        self._flush()
        if not self._blocks:
            return None, "the soundtrack holds no sample that can be decoded"
        samples = np.concatenate(self._blocks)
        return samples[: len(samples) + min(0, self._room)], None

    def _flush(self) -> None:
        if self._resampler:
            self._keep(self._resampler.resample(None))

    def _keep(self, frames: "Iterable[AudioFrame]") -> None:
        for frame in frames:
            self._blocks.append(frame.to_ndarray()[0])
            self._room -= frame.samples


def _sound_by_ffmpeg(path: Path, settings: MediaSettings) -> tuple[np.ndarray | None, str | None]:
    """A second opinion on a soundtrack that gave nothing: as `_Visit.waveform`, by the ffmpeg program."""
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
    import av
    import cv2

    av.logging.set_level(av.logging.PANIC)
    cv2.setNumThreads(1)
    limit = _address_space() + memory_mb * 2**20  # what the interpreter has mapped already is no file's doing
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space() -> int:
    """Bytes that this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


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
        """Decode files side by side; results come in the order of the requests, `AHEAD` at most before the reader."""
        requests = iter(requests)
        ahead: list[object] = []
        for request in requests:
            ahead.append(self._pool.schedule(decode, args=(request, self.settings), timeout=self.settings.timeout_s))
            if len(ahead) > max(AHEAD, 4 * self.workers):
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
