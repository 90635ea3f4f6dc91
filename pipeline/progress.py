"""How long work tells that it advances, without knowing who looks."""

from typing import Protocol


class Progress(Protocol):
    """Called by a stage as it works. The command line draws a bar; tests and engines pass `silent`."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Args: stage: what is being done; done, total: how much of it, in its own units; note: a few words."""


def within(progress: Progress, whole: str, start: int, n_whole: int) -> Progress:
    """The progress of one piece of a longer stage: what the piece calls done counts from `start`, of `n_whole`."""

    def of_piece(stage: str, done: int, total: int, note: str = "") -> None:
        progress(whole, start + done, n_whole, note)

    return of_piece


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """The progress nobody looks at."""
