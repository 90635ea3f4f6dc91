"""Formatting of values on a page: untrusted names, shares, counts and times."""

import math

from nmcl.pipeline.escape import is_control

DASH = "–"


def finite(value: float | None) -> float | None:
    """Return the value, or None if it is not finite."""
    return value if value is not None and math.isfinite(value) else None


def printable(text: str) -> str:
    """Return the text with control characters, bidirectional overrides and lone surrogates replaced."""
    return "".join("\N{REPLACEMENT CHARACTER}" if is_control(c) and c not in "\n\t" else c for c in text)


def shortened(text: str, width: int) -> str:
    """Return the text on one line, cut to at most `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def percent(share: float | None) -> str:
    """Format a share in per cent: 0.4567 -> 45.7 %."""
    return DASH if finite(share) is None else f"{share:.1%}".replace("%", "\N{NO-BREAK SPACE}%")


def decimal(value: float | None) -> str:
    """Format a number with three decimals: 0.45678 -> 0.457."""
    return DASH if finite(value) is None else f"{value:.3f}"


def count(value: int | None) -> str:
    """Format a count with separators: 12345 -> 12,345."""
    return DASH if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """Format seconds as a duration: 4000 -> 1 h 7 min."""
    if value is None or not math.isfinite(value):
        return DASH
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
