"""Counts, lists and hints for messages."""

import difflib
from collections.abc import Iterable, Sequence


def counted(n: int, one: str, many: str = "") -> str:
    """Return a count such as `1 file` or `2,000 files`; `many` is the plural, by default `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def listed(names: Iterable[str], n_shown: int = 10) -> str:
    """Return unquoted names with commas between; of many only the first, and the number of the others."""
    return _some(list(names), n_shown)


def joined(names: Sequence[str]) -> str:
    """Return at least one name as a sentence lists them: a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def hint(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean ...?` with the known name that is closest, or nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def examples(names: Iterable[str], n_shown: int = 3) -> str:
    """Return a few of the names in quotes, for a message."""
    return _some([repr(name if len(name) <= 80 else f"{name[:80]}...") for name in names], n_shown)


def _some(names: list[str], n_shown: int) -> str:
    more = f" and {len(names) - n_shown:,} more" if len(names) > n_shown else ""
    return ", ".join(names[:n_shown]) + more
