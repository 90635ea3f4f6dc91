"""How messages count things."""


def counted(n: int, one: str, many: str = "") -> str:
    """Such as `1 file`, `2,000 files`. Args: many: what is said of several; without it `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"
