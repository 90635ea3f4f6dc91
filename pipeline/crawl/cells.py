"""Conversion of manifest cells and sidecar texts to clean text."""

import codecs
import html.entities
import math
import re
import reprlib
import unicodedata
from datetime import date, time, timedelta
from decimal import Decimal
from uuid import UUID


class BadRow(ValueError):
    """Error of an unusable row; the message gives the reason. Also used as a cell value that cannot be read."""


def text_of(cell: object) -> str | None:
    """Return a cell as stripped text, or None if it is empty. Whole numbers lose their `.0`.

    Raises:
        BadRow: If the cell is a list or an object, or is not valid text.
    """
    if isinstance(cell, str):
        return checked(cell).strip() or None
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, BadRow):
        raise cell
    if isinstance(cell, float | Decimal) and math.isfinite(cell) and cell == int(cell):
        if isinstance(cell, float) and abs(cell) > 2**53:
            raise BadRow(f"is {cell}, a floating-point number that has lost digits; store it as text")
        cell = int(cell)
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "surrogateescape")
    if not isinstance(cell, str | int | float | Decimal | date | time | timedelta | UUID):
        raise BadRow(f"is {reprlib.repr(cell)}, a {type(cell).__name__}; expected text")
    try:
        return checked(str(cell)).strip() or None
    except ValueError as error:  # an integer of thousands of digits
        raise error if isinstance(error, BadRow) else BadRow(f"is not usable as text: {error}") from error


def prose_of(cell: object) -> str | None:
    """Return a free-text cell with HTML entities decoded once, in Unicode's composed form, stripped.

    Raises:
        BadRow: If the cell is a list or an object, or is not valid text.
    """
    text = text_of(cell)
    return prose(text) if text else None


def prose(text: str) -> str | None:
    """Return text with HTML entities decoded once, in Unicode's composed form, stripped; None if nothing is left."""
    if "&" in text:
        text = _ENTITY.sub(_decoded, text)
    return composed(text).strip() or None


_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def _decoded(match: re.Match[str]) -> str:
    entity = match[0]
    if not entity.startswith("&#") and entity[1:] not in html.entities.html5:
        return entity
    return html.unescape(entity).replace("\0", "\ufffd")


def is_utf16(content: bytes) -> bool:
    """Return whether a file begins with the byte order mark of UTF-16."""
    return content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def composed(text: str) -> str:
    """Return text in Unicode's composed form (NFC), so that equal letters are equal."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def checked(text: str) -> str:
    """Return the text unchanged; raise BadRow if it holds a NUL byte or is not valid UTF-8."""
    if "\0" in text:
        raise BadRow("contains a NUL byte; remove it, or save the manifest as UTF-8")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRow("is not valid UTF-8; save the manifest as UTF-8") from error
    return text


def _marked(error: UnicodeError) -> tuple[str, int]:
    """Replace undecodable bytes by a lone surrogate, so that `checked` can find their row."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error("nmcl-marked", _marked)
