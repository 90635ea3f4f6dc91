"""Decoding of one file into one Content, in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import animated, work
from nmcl.pipeline.media.failures import clip_error
from nmcl.pipeline.media.files import container_of, opened
from nmcl.pipeline.media.frames import Clock, selected, timed
from nmcl.pipeline.media.limits import MediaSettings
from nmcl.pipeline.media.sound import Soundtrack, by_ffmpeg
from nmcl.pipeline.media.streams import is_decodable, main_picture, main_sound, n_unnamed_channels
from nmcl.pipeline.needs import Frames, Need, Sound, Stream, TimedFrame
from nmcl.pipeline.records import Content, Pictures

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer

OF_THE_FILE = frozenset({"missing", "changed", "unreadable"})
"""Kinds of failure after which nothing of a file can be used."""


@dataclass(frozen=True)
class Request:
    """Decoding request for one file."""

    path: Path
    needs: tuple[Need, ...] = ()
    """Equal needs are served once; a stream that none of them reads is not decoded."""
    sha256: str = ""
    """SHA-256 of the content in the catalogue, 64 hex digits; empty for any content."""
    n_bytes: int | None = None
    """Size of the file in the catalogue; None for any."""

    @property
    def frames(self) -> tuple[Frames, ...]:
        """The needs of the picture."""
        return tuple(need for need in dict.fromkeys(self.needs) if isinstance(need, Frames))

    @property
    def sounds(self) -> tuple[Sound, ...]:
        """The needs of the sound."""
        return tuple(need for need in dict.fromkeys(self.needs) if isinstance(need, Sound))


def decode(request: Request, settings: MediaSettings) -> Content | ClipError:
    """Decode one file in this process, picture and sound in one pass if possible.

    Returns:
        The content, whose `problems` give what is absent and why; a ClipError if nothing of the file can be used:
        `missing`, `changed`, `unreadable`, `internal`. `Decoder` adds `timeout` and `crashed`.
    """
    try:
        with opened(request.path, request.sha256, request.n_bytes) as file:
            return _File(file, request, settings).content()
    except Exception as error:  # noqa: BLE001 (any error is an outcome of this file alone)
        return clip_error(error, settings.memory_mb)


_Seen = dict[Frames, Pictures]
_Heard = dict[Sound, np.ndarray] | ClipError | None
"""Soundtrack by need, or the reason for its absence; None if it was not decoded."""


class _File:
    def __init__(self, file: BinaryIO, request: Request, settings: MediaSettings) -> None:
        self._file = file
        self._request = request
        self._settings = settings

    def content(self) -> Content:
        problems: dict[Stream, ClipError] = {}
        seen: _Seen = {}
        heard: _Heard = None
        if self._request.frames:
            try:
                seen, heard = self._look()
            except Exception as error:  # as in `decode`; the sound may still be usable
                problems["frames"] = failure = clip_error(error, self._settings.memory_mb)
                if failure.kind in OF_THE_FILE:
                    raise failure from error
        if self._request.sounds and heard is None:
            heard = self._listen()
        if isinstance(heard, ClipError):
            problems["waveform"], heard = heard, None
        return Content(seen, heard or {}, problems=problems)

    def _look(self) -> tuple[_Seen, _Heard]:
        """Return the selected frames, and the result or error of the sound."""
        if animated.is_webp(self._file):
            return selected(self._request.frames, animated.webp_frames(self._file, self._settings)), None
        try:
            return self._one_pass(None, planned=False)
        except work.TooMuchWork:
            with self._container() as container:
                picture = self._picture(container)
                parts = work.parts(container, picture, _frame_s(picture), self._settings)
            return self._one_pass(parts, planned=True)

    def _one_pass(self, parts: work.Parts | None, planned: bool) -> tuple[_Seen, _Heard]:
        with self._container() as container:
            picture = self._picture(container)
            if not planned:
                n_frames = work.estimated_frames(container, picture, self._settings)
                context = picture.codec_context
                per_frame = work.cost(context.name, context.width * context.height)
                if n_frames is None or n_frames * per_frame > work.budget(self._settings):
                    raise work.TooMuchWork
            one = self._pass(container, picture, parts, planned)
            return selected(self._request.frames, one.frames()), self._heard(one)

    def _listen(self) -> _Heard:
        if animated.is_webp(self._file):
            return _NO_SOUND
        with self._container() as container:
            return self._heard(self._pass(container, None, None, planned=True))

    def _pass(
        self, container: "InputContainer", picture: "VideoStream | None", parts: work.Parts | None, planned: bool
    ) -> "_Pass":
        sound = main_sound(container.streams.audio) if self._request.sounds else None
        rates_hz = tuple(need.rate_hz for need in self._request.sounds)
        return _Pass(container, picture, sound, rates_hz, parts, planned, self._settings)

    def _heard(self, one: "_Pass") -> _Heard:
        if not self._request.sounds:
            return None
        if one.sound is None:
            return _NO_SOUND
        try:
            heard = one.waveforms()
            return {
                need: heard[need.rate_hz]
                if need.rate_hz in heard
                else by_ffmpeg(self._file, one.sound, need.rate_hz, one.n_channels, self._settings)
                for need in self._request.sounds
            }
        except Exception as error:  # noqa: BLE001 (as in `decode`; the picture is usable)
            return clip_error(error, self._settings.memory_mb)

    @contextmanager
    def _container(self) -> "Iterator[InputContainer]":
        with container_of(self._file, self._request.path, self._settings.max_pixels) as container:
            yield container

    def _picture(self, container: "InputContainer") -> "VideoStream":
        picture = main_picture(container.streams.video)
        if picture is None:
            what = "no video stream that FFmpeg decodes" if container.streams.video else "no video stream"
            raise ClipError("no_picture", f"the file has {what}")
        work.require_size(picture.codec_context.width * picture.codec_context.height, self._settings)
        return picture


_NO_SOUND = ClipError("no_sound", "the file has no soundtrack")


class _Pass:
    """One pass over an open file that yields frames and buffers the sound between them."""

    def __init__(
        self,
        container: "InputContainer",
        picture: "VideoStream | None",
        sound: "AudioStream | None",
        rates_hz: Sequence[int],
        parts: work.Parts | None,
        planned: bool,
        settings: MediaSettings,
    ) -> None:
        self._settings = settings
        self._picture = picture
        self.sound = sound
        self._heard = Soundtrack(rates_hz, settings.max_seconds)
        self._sound_failure: Exception | None = None
        self._parts = parts
        self._planned = planned
        self.n_channels = n_unnamed_channels(container, sound) if sound else None
        sound = sound if sound and is_decodable(sound) and self.n_channels is None else None
        streams = [stream for stream in (picture, sound) if stream]
        for stream in streams:
            stream.codec_context.thread_count = 1
        self._packets = work.until_unreadable(container.demux(streams)) if streams else iter(())

    def frames(self) -> Iterator[TimedFrame]:
        """Yield the frames up to `max_seconds`. Raises ClipError `no_picture`, `too_large`; TooMuchWork."""
        picture = self._picture
        assert picture is not None
        clock = Clock(_frame_s(picture))
        begin_s = float((picture.start_time or 0) * (picture.time_base or 0))
        n_frames, spent = 0, 0
        for frame, n_passed in self._decoded_frames():
            work.require_size(frame.width * frame.height, self._settings)
            stamp_s = frame.time
            time_s = clock.at(stamp_s if stamp_s is None else stamp_s - begin_s, n_passed)
            if time_s > self._settings.max_seconds:
                break
            spent += work.cost(picture.codec_context.name, frame.width * frame.height)
            if not self._planned and spent > 2 * work.budget(self._settings):
                raise work.TooMuchWork
            n_frames += 1
            yield timed(frame, time_s)
        if n_frames == 0:
            raise ClipError("no_picture", "no frame of the video stream can be decoded")

    def waveforms(self) -> dict[int, np.ndarray]:
        """Return the soundtrack by sample rate, (n_samples,) int16, mono; empty if no sample can be decoded."""
        for packet in self._packets:
            if self._heard.is_full:
                break
            self._hear(packet)
        if self._sound_failure:
            raise self._sound_failure
        return self._heard.samples()

    def _decoded_frames(self) -> "Iterator[tuple[VideoFrame, int]]":
        """Yield each frame with the number of frames since the previous one."""
        number, last, n_passed = -1, -1, 1
        for packet in self._packets:
            if packet.stream is not self._picture:
                self._hear(packet)
                continue
            frames: list[VideoFrame] = []
            n_left_out = 0
            if self._parts is not None and packet.size:
                number += 1
                if number not in self._parts:
                    continue
                if packet.is_keyframe and last >= 0:
                    n_left_out = number - last - 1
                    frames = self._drained() if n_left_out else []
                last = number
            for frame in frames:
                yield frame, n_passed
                n_passed = 1
            n_passed += n_left_out
            for frame in _decoded(packet):
                yield frame, n_passed
                n_passed = 1

    def _drained(self) -> "list[VideoFrame]":
        """Return the frames still buffered in the decoder, before a seek."""
        import av

        assert self._picture is not None
        end = av.Packet(0)
        end.stream = self._picture
        if self._picture.time_base:
            end.time_base = self._picture.time_base
        frames = _decoded(end)
        self._picture.codec_context.flush_buffers()
        return frames

    def _hear(self, packet: "Packet") -> None:
        if self.sound is None or packet.stream is not self.sound or self._sound_failure:
            return
        try:
            for frame in _decoded(packet):
                self._heard.add(frame)
        except Exception as error:  # noqa: BLE001 (stored until the picture is done)
            self._sound_failure = error


def _decoded(packet: "Packet") -> "list[Any]":
    """Return the frames of a packet; none of a damaged one."""
    import av

    try:
        return packet.decode()
    except (av.FFmpegError, EOFError) as error:
        if isinstance(error, MemoryError):
            raise
        return []


def _frame_s(picture: "VideoStream") -> float:
    """Return the duration of one frame according to the file's header."""
    return 1 / float(picture.guessed_rate or picture.average_rate or 25)
