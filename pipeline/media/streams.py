"""Selection of a file's picture and sound tracks."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioStream, VideoStream
    from av.container import InputContainer


def main_picture(streams: "Iterable[VideoStream]") -> "VideoStream | None":
    """Return the track that a player shows; None if none can be decoded.

    Attached covers do not count. Of the others, in order of preference: not a still image and not much shorter than the
    longest; marked as default; largest frames; first.
    """
    from av.stream import Disposition

    tracks = [s for s in streams if is_decodable(s) and not s.disposition & Disposition.attached_pic]
    if not tracks:
        return None
    longest = max(_seconds(s) for s in tracks)

    def rank(track: "VideoStream") -> tuple[bool, bool, int]:
        thumbnail = Disposition.still_image | Disposition.timed_thumbnails
        is_video = track.frames != 1 and not track.disposition & thumbnail and 2 * _seconds(track) >= longest
        n_pixels = int(track.codec_context.width * track.codec_context.height)
        return is_video, bool(track.disposition & Disposition.default), n_pixels

    return max(tracks, key=rank)


def main_sound(streams: "Iterable[AudioStream]") -> "AudioStream | None":
    """Return the soundtrack that a player plays; None if there is none.

    In order of preference: can be decoded; not much shorter than the longest; not a commentary; marked as default; the
    first.
    """
    from av.stream import Disposition

    tracks = list(streams)
    if not tracks:
        return None
    longest = max(_seconds(s) for s in tracks)
    aside = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.dependent

    def rank(track: "AudioStream") -> tuple[bool, bool, bool, bool]:
        is_default = bool(track.disposition & Disposition.default)
        return is_decodable(track), 2 * _seconds(track) >= longest, not track.disposition & aside, is_default

    return max(tracks, key=rank)


def n_unnamed_channels(container: "InputContainer", sound: "AudioStream") -> int | None:
    """Return the number of channels of a soundtrack whose layout has no name, such as BL+BR; None if it has a name.

    PyAV frees the map of a layout with custom order twice: it must not decode such a soundtrack. Asking PyAV for the
    layout would do the same, so FFmpeg's description of the file is read.
    """
    import av

    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        described: str = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    found = re.search(rf"^ *Stream #0:{sound.index}\b.*?, (\d+) channels \(", described, re.MULTILINE)
    return int(found[1]) if found else None


def is_decodable(stream: "AudioStream | VideoStream") -> bool:
    """Return whether the FFmpeg inside PyAV has a decoder for the stream."""
    return stream.codec_context is not None


def _seconds(stream: "AudioStream | VideoStream") -> float:
    """Return the duration of a track; 0 if the file does not give it."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    said = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(said[1]) * 3600 + int(said[2]) * 60 + float(said[3]) if said else 0.0
