"""Subtitles beside videos, WebVTT and SubRip, as text.

Files are untrusted: their size is limited, and every step takes time linear in it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import chain, pairwise
from typing import Annotated, NamedTuple

from annotated_types import MinLen

from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.crawl.cells import is_utf16, prose
from nmcl.pipeline.records import Line

MAX_BYTES = 4 * 2**20
"""Larger files are not read. Automatic captions of one hour take about 1 MB."""
MAX_LINES = 20_000
"""Files with more are not read: speech of six hours, and the texts of a part must fit into memory."""
MAX_CHARACTERS = 500_000
"""The same for the characters of all lines."""
MAX_ROLLING = 4
"""Maximum number of lines that rolling captions show again; YouTube repeats one."""
GAP_S = 0.2
"""Rolling captions follow each other at once; a line that comes again later was said again."""


@dataclass(frozen=True)
class SubtitleSettings:
    """Frozen settings for choosing among the subtitles of a video."""

    languages: Annotated[tuple[Annotated[str, MinLen(1)], ...], Reference(("en", "*"))] = ("en", "*")
    """Preferred languages in order: `en` is also `en-US` and `en-orig`, `*` is any. Files without a language in their
    name count after all that are named."""


class SubtitleError(ValueError):
    """A file that is not subtitles; the message gives the reason."""


class Cue(NamedTuple):
    """Subtitle that is shown for some time."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


def by_preference(found: Sequence[tuple[str, str]], languages: Sequence[str]) -> list[str]:
    """Return the paths of the files whose language is wanted, the preferred ones first.

    Of one wanted language, the exact name is first, then `-orig` (what was spoken, by YouTube), then alphabetically.

    Args:
        found: Language and path of each file, see `CrawlFiles.subtitles`.
        languages: See `SubtitleSettings`.
    """
    last = len(languages) - ("*" in languages)

    def rank(language: str) -> int | None:
        if not language:
            return last
        wanted = (i for i, name in enumerate(languages) if name == "*" or f"{language}-".startswith(f"{name}-"))
        return next(wanted, None)

    def order(item: tuple[str, str]) -> tuple[int, bool, bool, str, bool]:
        language, path = item
        position = rank(language) or 0
        return position, language not in languages, not language.endswith("-orig"), language, path.endswith(".srt")

    return [path for _, path in sorted((item for item in found if rank(item[0]) is not None), key=order)]


def parse(data: bytes) -> tuple[Line, ...]:
    """Return the lines of a subtitle file in order, without tags, and those of rolling captions once.

    Raises:
        SubtitleError: If it or its text is too large, it is not text, or has text but no times.
    """
    if len(data) > MAX_BYTES:
        raise SubtitleError(f"has more than {MAX_BYTES:,} bytes")
    return _unrolled(_cues(_decoded(data)))


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-16" if is_utf16(data) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SubtitleError("is not text in UTF-8 or UTF-16") from error
    if "\0" in text:
        raise SubtitleError("contains NUL bytes")
    return text


_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?!\d)")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<(?:\d{1,4}:)?\d\d:\d\d[.,]\d{3}>|\{\\[^{}]*\}")
"""Tags for style, voice and language, the times of words in automatic captions, and positions in SubRip."""
_INVISIBLE = str.maketrans("", "", "\u200b\u200e\u200f\ufeff")


def _cues(text: str) -> list[Cue]:
    cues: list[Cue] = []
    times: tuple[float, float] | None = None
    lines: list[str] = []
    n_lines = n_characters = 0
    is_vtt = text.startswith("WEBVTT")  # where a line of spaces belongs to its cue
    for line in chain((line.removesuffix("\n") for line in StringIO(text, newline=None)), ("",)):
        found = _TIMES.match(line) if "-->" in line else None
        if found or not (line if is_vtt else line.strip()):
            if times:
                cues.append(Cue(*times, tuple(lines)))
            numbers = found.groups() if found else ()
            times = (_seconds(numbers[:4]), _seconds(numbers[4:])) if found else None
            lines = []
        elif times and (clean := _clean(line)):
            lines.append(clean)
            n_lines, n_characters = n_lines + 1, n_characters + len(clean)
            if n_lines > MAX_LINES or n_characters > MAX_CHARACTERS:
                raise SubtitleError(f"has more than {MAX_LINES:,} lines or {MAX_CHARACTERS:,} characters of text")
    if not cues and (content := text.strip()) and not content.startswith("WEBVTT"):
        raise SubtitleError("has no line with times such as 00:00:01,000 --> 00:00:02,500")
    return cues


def _seconds(numbers: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (number or "0" for number in numbers)
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _clean(line: str) -> str:
    text = prose(_TAG.sub("", line)) or ""
    return " ".join(text.translate(_INVISIBLE).split())


def _unrolled(cues: Sequence[Cue]) -> tuple[Line, ...]:
    """Return the lines of cues; a cue's first lines are left out if they are the last ones of the cue before it."""
    shown = [cue for cue in cues if cue.lines]
    found = [Line(cue.start_s, line) for cue in shown[:1] for line in cue.lines]
    for before, cue in pairwise(shown):
        n_again = _overlap(before.lines, cue.lines) if cue.start_s <= before.end_s + GAP_S else 0
        found += [Line(cue.start_s, line) for line in cue.lines[n_again:]]
    return tuple(found)


def _overlap(before: tuple[str, ...], after: tuple[str, ...]) -> int:
    """Return how many of the first lines of `after` are the last ones of `before`."""
    most = min(len(before), len(after), MAX_ROLLING)
    return next((n for n in range(most, 0, -1) if before[-n:] == after[:n]), 0)
