"""Tokenizer for micro-video descriptions: words, #hashtags, @mentions, emoji, and the hosts of links."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache

_MARKS = "".join(
    chr(code)
    for code in range(0x20000)  # there are none above, but variation selectors
    if unicodedata.category(chr(code)).startswith("M") and not 0xFE00 <= code <= 0xFE0F
)
"""Accents and vowel signs, which `\\w` lacks: without them a Hindi word would be split."""

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff" + "".join(
    chr(code)
    for block in ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
    for code in range(block[0], block[1] + 1)
    if unicodedata.category(chr(code)).startswith("L")
)
"""Kana, Han, and the letters of Thai, Lao, Burmese and Khmer, which are written without spaces: each is a token."""
_STACKERS = "\u1039\u17d2"
"""Burmese and Khmer signs that put the next letter below the previous one."""

_PICTOGRAPH = (
    "[\u00a9\u00ae\u2139\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff]"
)
_TAGS = "[\U000e0020-\U000e007f]"
_ELEMENT = f"{_PICTOGRAPH}[\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?{_TAGS}*"
_EMOJI = (
    "[\U0001f1e6-\U0001f1ff]{2}"  # a flag is two regional letters
    "|[0-9#*]\ufe0f?\u20e3"  # a keycap
    f"|{_ELEMENT}(?:\u200d{_ELEMENT})*"  # joined by zero-width joiners: families, professions
)
_LETTER = f"(?:(?![{_UNSPACED}])[^\\W_]|[{_MARKS}])"
_CHARACTER = f"[{_UNSPACED}](?:[{_STACKERS}][{_UNSPACED}]|[{_MARKS}])*"
_WORD = f"{_CHARACTER}|{_LETTER}+(?:'{_LETTER}+)*"
_NAME = f"(?:\\w|[{_MARKS}])+"

_TOKEN = (
    rf"(?i:https?://(?:www\.)?|\bwww\.)(?P<host>[^\s/?#:]+)\S*"
    rf"|(?P<emoji>{_EMOJI})|#(?P<tag>{_NAME})|(?P<mention>@{_NAME})|(?P<word>{_WORD})"
)


@cache
def _compiled() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of tokens and of words in a hashtag: compiling them takes a while."""
    return re.compile(_TOKEN), re.compile(_WORD)


def tokens(text: str, words_in: Callable[[str], Iterable[str]] | None = None) -> list[str]:
    """Return the tokens of a description, in order, in lower case; [] if there are none.

    A hashtag gives itself and then its words (`#Snow_day`: `#snow_day`, `snow`, `day`), so that it shares the training
    of the plain words; a link gives its host; an emoji stays whole, with its skin tone and joined parts, but without
    the variation selector that only asks for colour. Compatibility forms are unified first (NFKC).

    Args:
        words_in: Returns the words of a hashtag, given as it is written, without the #. Default: `spaced_words`.
    """
    text, words_in = (normalized(text), spaced_words) if words_in is None else (_unified(text), words_in)
    found: list[str] = []
    for match in _compiled()[0].finditer(text):
        kind, token = match.lastgroup, match[match.lastgroup or 0].lower()
        if kind == "tag":
            found += [f"#{token}", *words_in(match["tag"])]
        elif kind == "host":
            found.append(token.rstrip(".,!)'\""))
        else:
            found.append(re.sub("[\ufe0e\ufe0f]", "", token))
    return found


def spaced_words(text: str) -> list[str]:
    """Return the words of a text in lower case: what is between spaces, signs and underscores."""
    words: list[str] = _compiled()[1].findall(text.lower())
    return words


def normalized(text: str) -> str:
    """Return a text in lower case with compatibility forms unified (NFKC)."""
    return _unified(text).lower()


def _unified(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("’", "'")
