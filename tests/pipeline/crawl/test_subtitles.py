"""Subtitles as text: what YouTube and others write, and files that are none."""

import random
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest

from nmcl.pipeline.crawl.subtitles import MAX_BYTES, SubtitleError, by_preference, parse

AUTOMATIC = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.389 align:start position:0%
\x20
hello<00:00:00.480><c> everyone</c><00:00:00.960><c> welcome</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
hello everyone welcome
\x20

00:00:02.399 --> 00:00:04.550 align:start position:0%
hello everyone welcome
to<00:00:02.639><c> my</c><00:00:02.879><c> channel</c>

00:00:04.550 --> 00:00:04.560 align:start position:0%
to my channel
\x20

00:00:09.000 --> 00:00:11.000 align:start position:0%
to my channel
"""
"""Automatic captions in YouTube's form: each line comes three times. The last cue is said again, five seconds later."""


def test_a_line_of_spaces_ends_a_subrip_cue() -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nfirst\n \n2\n00:00:03,000 --> 00:00:04,000\nsecond\n"
    assert [line.text for line in parse(text.encode())] == ["first", "second"]


WEBVTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE
this is not shown

intro
00:01.000 --> 00:02.500 line:0
<v.loud Ann>Salt &amp; <i>pepper</i> &lt;3</v>
2 < 3 and 4 > 1

01:00:03.000 --> 01:00:04.000
\u200b
caf\u0065\u0301
"""

SUBRIP = """\ufeff1\r
00:00:01,000 --> 00:00:02,000\r
{\\an8}<font color="#ff0000">First line</font>\r
second line\r
\r
2\r
0:00:02,500-->0:00:03,5\r
Third\r
"""


def texts(data: str | bytes) -> list[str]:
    return [line.text for line in parse(data.encode() if isinstance(data, str) else data)]


def test_automatic_captions_give_each_line_once() -> None:
    lines = parse(AUTOMATIC.encode())
    assert [(round(line.time_s, 3), line.text) for line in lines] == [
        (0.16, "hello everyone welcome"),
        (2.399, "to my channel"),
        (9.0, "to my channel"),
    ]


def test_notes_styles_tags_and_entities_are_not_shown() -> None:
    assert parse(WEBVTT.encode()) == ((1.0, "Salt & pepper <3"), (1.0, "2 < 3 and 4 > 1"), (3603.0, "caf\u00e9"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_subrip_with_positions_and_fonts(encoding: str) -> None:
    text = SUBRIP if encoding == "utf-8" else SUBRIP[1:]
    assert parse(text.encode(encoding)) == ((1.0, "First line"), (1.0, "second line"), (2.5, "Third"))


def test_files_without_a_word() -> None:
    for text in ("", "\n\n", "WEBVTT\n", "WEBVTT\n\n00:01.000 --> 00:02.000\n\n"):
        assert parse(text.encode()) == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("caf\u00e9 \u00e0".encode("latin-1"), "UTF-8 or UTF-16"),
        (b"\x00\x01\x02", "NUL"),
        (b"<html>404</html>", "no line with times"),
        (b"0" * (MAX_BYTES + 1), "more than 4,194,304 bytes"),
    ],
)
def test_a_file_that_is_none(data: bytes, reason: str) -> None:
    with pytest.raises(SubtitleError, match=reason):
        parse(data)


def by_definition(cues: Sequence[tuple[float, float, list[str]]]) -> list[str]:
    """Lines of rolling captions, compared one by one: a cue is what the screen shows, new lines come below old ones."""
    said: list[str] = []
    screen: list[str] = []
    until = -1.0
    for start, end, lines in cues:
        old = screen if start <= until + 0.2 else []
        kept = [n for n in range(5) if n <= len(old) and old[len(old) - n :] == lines[:n] and n <= len(lines)]
        said.extend(lines[max(kept) :])
        screen, until = lines, end
    return said


@pytest.mark.parametrize("seed", range(20))
def test_rolling_captions_as_by_definition(seed: int) -> None:
    chance = random.Random(seed)
    cues: list[tuple[float, float, list[str]]] = []
    now, screen = 0.0, [""]
    for _ in range(60):
        screen = [
            *screen[-chance.randint(1, 3) :],
            *chance.choices(["one", "two", "three four"], k=chance.randint(0, 2)),
        ]
        lines = [line for line in screen if line]
        if lines:
            cues.append((now, now + 1, lines))
        now += chance.choice([1.0, 1.1, 5.0])
    blocks = (f"{stamp(start)} --> {stamp(end)}\n" + "\n".join(lines) for start, end, lines in cues)
    assert texts("WEBVTT\n\n" + "\n\n".join(blocks)) == by_definition(cues)


def stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    return f"00:{milliseconds // 60000:02}:{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}"


@pytest.mark.parametrize("piece", ["<a", "{\\", "&amp", "0:0", "-->", " ", "<", "00:00:01,000 --> ", "<c>\n", "x\n\n"])
def test_time_is_linear_in_the_size(piece: str) -> None:
    head = "00:00:01,000 --> 00:00:02,000\n"
    data = (head + piece * ((MAX_BYTES - len(head)) // len(piece))).encode()
    start = time.perf_counter()
    with suppress(SubtitleError):  # some have more text than is read
        parse(data)
    assert time.perf_counter() - start < 20  # quadratic would be hours


def test_languages_by_preference() -> None:
    found = [("", "a.srt"), ("de", "a.de.vtt"), ("en-US", "a.en-US.vtt"), ("en", "a.en.vtt"), ("en", "a.en.srt")]
    found += [("en-orig", "a.en-orig.vtt"), ("fr", "a.fr.vtt"), ("es-orig", "a.es-orig.vtt"), ("enm", "a.enm.vtt")]
    english = ["a.en.vtt", "a.en.srt", "a.en-orig.vtt", "a.en-US.vtt"]
    assert by_preference(found, ("en",)) == [*english, "a.srt"]
    others = ["a.es-orig.vtt", "a.de.vtt", "a.enm.vtt", "a.fr.vtt"]
    assert [path for path in by_preference(found, ("en", "*")) if path != "a.srt"] == [*english, *others]
    assert by_preference(found, ("fr", "en"))[:2] == ["a.fr.vtt", "a.en.vtt"]
    assert by_preference(found, ("en-US",)) == ["a.en-US.vtt", "a.srt"]
