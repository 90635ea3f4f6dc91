"""Conversion of soundtracks to mono 16-bit samples, whatever their channels."""

import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media.failures import stable
from nmcl.pipeline.media.files import FORMATS
from nmcl.pipeline.media.limits import MediaSettings
from nmcl.pipeline.processes import die_with_parent

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream

LOUDEST = float(1 << 16)
"""Largest absolute value of a floating-point sample, where 1 is full scale. FFmpeg clips values up to it; larger ones,
infinity and NaN become the most negative 16-bit sample."""
MOST_INVALID = 0.01
"""Largest share of invalid floating-point samples, which become silence; with more, a soundtrack is unreadable."""
FFMPEG_TRIES = 3
"""Attempts of the ffmpeg program on one soundtrack if a signal ends it."""


class _Mixer(Protocol):
    def resample(self, frame: "AudioFrame | None") -> "Iterable[AudioFrame]": ...


class Soundtrack:
    """Collects a soundtrack at one or more sample rates as it is decoded."""

    def __init__(self, rates_hz: Sequence[int], max_seconds: float) -> None:
        self._tracks = [_Track(rate_hz, int(max_seconds * rate_hz)) for rate_hz in rates_hz]
        self._kind: object = None
        self._n_values = self._n_invalid = 0

    @property
    def is_full(self) -> bool:
        """Whether `max_seconds` is reached."""
        return all(track.room <= 0 for track in self._tracks)

    def add(self, frame: "AudioFrame") -> None:
        """Add the next frame. Rate and channels may change between frames.

        Raises:
            ClipError: `unreadable`: the sample format cannot be mixed.
        """
        n_channels = frame.layout.nb_channels
        kind = (frame.format.name, frame.layout.name, n_channels, frame.sample_rate)
        if kind[0] in _FLOATS:
            n_values = frame.samples * (1 if kind[0].endswith("p") else n_channels)
            self._n_invalid += _silence_invalid(frame, _FLOATS[kind[0]], n_values)
        self._n_values += frame.samples * n_channels
        for track in self._tracks:
            track.add(frame, is_new_kind=kind != self._kind)
        self._kind = kind

    def samples(self) -> dict[int, np.ndarray]:
        """Return the collected samples by rate: shape (n_samples,), int16; empty if there are none.

        Raises:
            ClipError: `unreadable`: too many samples are not numbers.
        """
        if self._n_invalid > MOST_INVALID * self._n_values:
            share = 100 * self._n_invalid / self._n_values
            raise ClipError(
                "unreadable",
                f"{share:.3g} % of the sound samples are not numbers, or above {LOUDEST:,.0f} times full scale",
            )
        found = {track.rate_hz: track.samples() for track in self._tracks}
        return {rate_hz: samples for rate_hz, samples in found.items() if samples is not None}


def _silence_invalid(frame: "AudioFrame", dtype: type[np.floating[Any]], n_values: int) -> int:
    """Set the samples of a frame to 0 that are no possible sound, and return their number.

    Args:
        n_values: Number of values of each plane.
    """
    n_invalid = 0
    for plane in frame.planes:
        values = np.frombuffer(memoryview(plane), dtype, n_values)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = values.dot(values)  # an invalid value makes it larger than LOUDEST**2, infinite or NaN
        if not squares <= LOUDEST**2:
            invalid = ~(np.abs(values) <= LOUDEST)
            values[invalid] = 0
            n_invalid += int(invalid.sum())
    return n_invalid


_FLOATS: dict[str, type[np.floating[Any]]] = {
    "flt": np.float32,
    "fltp": np.float32,
    "dbl": np.float64,
    "dblp": np.float64,
}
"""Floating-point sample formats of FFmpeg; those that end in p have a plane for each channel."""


class _Track:
    """Collects a soundtrack at one sample rate."""

    def __init__(self, rate_hz: int, room: int) -> None:
        self.rate_hz = rate_hz
        self.room = room
        self._blocks: list[np.ndarray] = []
        self._mixer: _Mixer | None = None

    def add(self, frame: "AudioFrame", is_new_kind: bool) -> None:
        if is_new_kind:
            self._flush()
            self._mixer, mixed = _mixer_for(frame, self.rate_hz)
            self._keep(mixed)
        else:
            assert self._mixer is not None
            self._keep(self._mixer.resample(frame))

    def samples(self) -> np.ndarray | None:
        self._flush()
        if not self._blocks:
            return None
        samples = np.concatenate(self._blocks)
        return samples[: len(samples) + min(0, self.room)]

    def _flush(self) -> None:
        if self._mixer:
            self._keep(self._mixer.resample(None))
            self._mixer = None

    def _keep(self, frames: "Iterable[AudioFrame]") -> None:
        for frame in frames:
            self._blocks.append(np.frombuffer(memoryview(frame.planes[0]), np.int16, frame.samples))
            self.room -= frame.samples


def _mixer_for(frame: "AudioFrame", rate_hz: int) -> "tuple[_Mixer, list[AudioFrame]]":
    """Return a mixer for frames of this format, and its output for this frame."""
    import av

    kinds = (partial(av.AudioResampler, "s16", "mono", rate_hz), partial(_Average, frame, rate_hz))
    for make in kinds:
        try:
            mixer: _Mixer = make()
            return mixer, list(mixer.resample(frame))
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
    kind = f"{frame.layout.nb_channels} channels of {frame.sample_rate} Hz, {frame.format.name}"
    raise ClipError("unreadable", f"the soundtrack cannot be mixed down ({kind})")


class _Average:
    """Averages channels for which FFmpeg knows no mix, by its `pan` filter."""

    def __init__(self, frame: "AudioFrame", rate_hz: int) -> None:
        from av.filter import Graph

        time_base = {"time_base": f"{frame.time_base}"} if frame.time_base else {}
        self._graph = Graph()
        source = self._graph.add(
            "abuffer",
            sample_rate=f"{frame.sample_rate}",
            sample_fmt=frame.format.name,
            channel_layout=frame.layout.name,
            **time_base,
        )
        form = {"sample_rates": f"{rate_hz}", "sample_fmts": "s16", "channel_layouts": "mono"}
        pan = self._graph.add(*_average(frame.layout.nb_channels).split("=", 1))
        chain = (source, pan, self._graph.add("aformat", **form))
        self._graph.link_nodes(*chain, self._graph.add("abuffersink")).configure()

    def resample(self, frame: "AudioFrame | None") -> "Iterable[AudioFrame]":
        """Behave like `av.AudioResampler.resample`."""
        import av

        self._graph.push(frame)
        mixed = []
        while True:
            try:
                mixed.append(self._graph.pull())
            except (av.BlockingIOError, EOFError):
                return mixed  # type: ignore[return-value]


def by_ffmpeg(
    file: BinaryIO, sound: "AudioStream", rate_hz: int, n_channels: int | None, settings: MediaSettings
) -> np.ndarray:
    """Decode a soundtrack that PyAV cannot, with the ffmpeg program, which may be newer.

    Args:
        n_channels: Number of channels to average if ffmpeg knows no mix of them.

    Raises:
        ClipError: `unreadable`, `timeout`, `crashed`.
    """
    try:
        return _run_ffmpeg(file, sound, rate_hz, {}, settings)
    except ClipError as error:
        if n_channels is None or error.kind != "unreadable":
            raise
        return _run_ffmpeg(file, sound, rate_hz, {"af": _average(n_channels)}, settings)


def _average(n_channels: int) -> str:
    """Return a filter of FFmpeg that averages channels."""
    return "pan=mono|c0=" + "+".join(f"{1 / n_channels:.9f}*c{i}" for i in range(n_channels))


def _run_ffmpeg(
    file: BinaryIO, sound: "AudioStream", rate_hz: int, mix: dict[str, str], settings: MediaSettings
) -> np.ndarray:
    import ffmpeg

    kept = {"format": sound.container.format.name.split(",")[0], "t": settings.max_seconds, "threads": 1}
    source = ffmpeg.input("fd:", fd=0, protocol_whitelist="fd", format_whitelist=FORMATS, **kept)
    sink = source[str(sound.index)].output(
        "pipe:", format="s16le", acodec="pcm_s16le", ac=1, ar=rate_hz, t=settings.max_seconds, **mix
    )
    limits = ("-nostdin", "-loglevel", "error", "-timelimit", str(int(settings.timeout_s) + 1))
    done = _undisturbed(sink.global_args(*limits).get_args(), file)
    samples = np.frombuffer(done.stdout, dtype="<i2")
    if not samples.size:
        said = stable(done.stderr.decode(errors="replace")).strip().splitlines()
        context = sound.codec_context  # None if PyAV has no such decoder
        said = [line for line in said if context and line.startswith(f"[{context.name} ")] or said
        raise ClipError("unreadable", f"the soundtrack cannot be decoded ({said[0] if said else 'no sample'})")
    return samples


def _undisturbed(arguments: list[str], file: BinaryIO) -> "subprocess.CompletedProcess[bytes]":
    """Run the ffmpeg program, and retry if a signal ended it: its partial output is not used as a soundtrack.

    Raises:
        ClipError: `timeout`, `crashed`.
    """
    for _ in range(FFMPEG_TRIES):
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        done = subprocess.run(
            [ffmpeg_program(), *arguments],
            stdin=file,
            capture_output=True,
            check=False,
            preexec_fn=partial(die_with_parent, signal.SIGKILL),
        )
        if done.returncode >= 0:
            return done
        if -done.returncode == signal.SIGXCPU:
            raise ClipError("timeout", "the soundtrack takes the ffmpeg program more than media.timeout_s")
    raise ClipError("crashed", f"the ffmpeg program was ended by signal {-done.returncode}, {FFMPEG_TRIES} times")


def ffmpeg_program() -> str:
    """Return the path of the ffmpeg program that `imageio_ffmpeg` includes.

    Its own function runs the program first, and reports it as absent if that run was killed.
    """
    import imageio_ffmpeg

    shipped = sorted(Path(imageio_ffmpeg.__file__).parent.glob("binaries/ffmpeg-*"))
    return os.environ.get("IMAGEIO_FFMPEG_EXE") or str(shipped[0] if shipped else imageio_ffmpeg.get_ffmpeg_exe())
