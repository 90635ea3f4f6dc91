"""Escaping of untrusted text (names, captions, file names, failure details) where it is output.

One function per output: `visible` for terminals, logs and messages, `markdown_text` and `markdown_code` for Markdown,
`csv_text` for spreadsheets. HTML is escaped by the templates of `nmcl.flows.report`.
"""

import re
import unicodedata

MAX_MESSAGE = 20_000
"""Maximum number of characters of one message; the rest is cut off."""

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional controls, which reorder the text around them."""
_ACTS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~$@]|(?<!\w)_|_(?!\w)|:(?=//)|(?<=www)\.|^[#=+-]|^\d+[.)](?=\s|$)", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_APOSTROPHE = "'"


def is_control(character: str) -> bool:
    """Return whether a character acts instead of being shown: controls, surrogates, direction overrides."""
    return character in _BIDI or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def visible(text: str, max_chars: int = MAX_MESSAGE, keep_lines: bool = False) -> str:
    r"""Return the text with control characters as visible escapes such as `\x1b`, safe to print on a terminal.

    Args:
        max_chars: Longer text is cut, with `…` at its end.
        keep_lines: Keep line breaks, but indent all lines after the first, so that none looks like another message.
    """
    if len(text) > max_chars:
        text = f"{text[: max_chars - 1]}…"
    if keep_lines:
        return "\n  ".join(visible(line, max_chars) for line in text.split("\n"))
    return _ACTS.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def markdown_text(text: str) -> str:
    """Return one line of Markdown that shows the text and contains no markup, HTML, link or table border."""
    return _MARKDOWN.sub(_backslashed, visible(" ".join(text.split())))


def _backslashed(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}\\{found[0][-1]}"  # also `1\.`, so that it does not start a list


def markdown_code(text: str) -> str:
    """Return the text as inline code of Markdown, even if it contains backticks."""
    shown = visible(" ".join(text.split()))
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def csv_text(text: str) -> str:
    """Return the text so that a spreadsheet reads it as text, not as a formula.

    A text that begins with `=`, `+`, `-`, `@`, a tab, a line break or an apostrophe gets an apostrophe in front.
    Removing that apostrophe gives the original text back.
    """
    return f"{_APOSTROPHE}{text}" if text.startswith((*_FORMULA, _APOSTROPHE)) else text
