"""Every shown stage reaches its end, also where the work ends early."""

import pytest

from nmcl.pipeline.progress import finishing

Call = tuple[str, int, int, str]


class Shown(list[Call]):
    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.append((stage, done, total, note))


def test_what_ends_early_is_shown_as_finished() -> None:
    found = Shown()
    with finishing(found) as shown:
        shown("train", 37, 100, "best")
        shown("held-out blocks", 0, 4)
        shown("extract", 5, 5)
    assert found == [
        ("train", 37, 100, "best"), ("held-out blocks", 0, 4, ""), ("extract", 5, 5, ""),
        ("train", 37, 37, ""), ("held-out blocks", 4, 4, ""),
    ]  # fmt: skip


def _interrupted(found: Shown) -> None:
    with finishing(found) as shown:
        shown("train", 37, 100)
        raise KeyboardInterrupt


def test_an_interruption_is_no_end() -> None:
    found = Shown()
    with pytest.raises(KeyboardInterrupt):
        _interrupted(found)
    assert found == [("train", 37, 100, "")]
