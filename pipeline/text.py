"""How messages count and list things."""

from collections.abc import Iterable, Sequence


def counted(n: int, one: str, many: str = "") -> str:
    """Such as `1 file`, `2,000 files`. Args: many: what is said of several; without it `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


def listed(names: Iterable[str], n_shown: int = 10) -> str:
    """Names with commas between, as they are; of many only the first, and how many more there are."""
    return _some(list(names), n_shown)


def joined(names: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c. Args: names: at least one."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def examples(names: Iterable[str], n_shown: int = 3) -> str:
    """A few of the names in quotes, for a message."""
    return _some([repr(name if len(name) <= 80 else f"{name[:80]}...") for name in names], n_shown)


def _some(names: list[str], n_shown: int) -> str:
    more = f" and {len(names) - n_shown:,} more" if len(names) > n_shown else ""
    return ", ".join(names[:n_shown]) + more
