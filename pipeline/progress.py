"""Progress callbacks for long-running stages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Progress callback protocol for long-running stages.

    The command line draws a bar; tests and engines pass `silent`.
    """

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            stage: Name of the work.
            done, total: Amounts in the stage's own units.
            note: A few words.
        """


def within(progress: Progress, whole: str, start: int, n_whole: int) -> Progress:
    """Return a callback for one piece of a longer stage: the piece's `done` counts from `start`, of `n_whole`."""

    def of_piece(stage: str, done: int, total: int, note: str = "") -> None:
        progress(whole, start + done, n_whole, note)

    return of_piece


@contextmanager
def finishing(progress: Progress) -> Iterator[Progress]:
    """Yield a callback whose stages are all shown as finished at the end of the block, unless it raises.

    Work that ends before its total, such as early stopping, then has what it did as its total.
    """
    unfinished: dict[str, int] = {}

    def tracked(stage: str, done: int, total: int, note: str = "") -> None:
        if done < total:
            unfinished[stage] = done or total
        else:
            unfinished.pop(stage, None)
        progress(stage, done, total, note)

    yield tracked
    for stage, done in list(unfinished.items()):
        progress(stage, done, done)


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """Ignore all progress."""
