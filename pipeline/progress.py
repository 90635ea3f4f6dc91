"""How long work tells that it advances, without knowing who looks."""

from typing import Protocol


class Progress(Protocol):
    """Called by a stage as it works. The command line draws a bar; tests and engines pass `silent`."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Args: stage: what is being done; done, total: how much of it, in its own units; note: a few words."""


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """The progress nobody looks at."""
