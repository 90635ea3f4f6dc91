"""What a person sees: progress bars while work goes on, plain lines where nobody looks, tables at the end."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_LINES_EVERY_S = 10.0
_bars: "Bars | _Lines | None" = None


@contextmanager
def showing_progress() -> Iterator[None]:
    """Draw what `progress` is told while the block runs: bars on a terminal, a line now and then elsewhere."""
    global _bars
    if err.is_terminal:
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        _bars = Bars(*columns, console=err)
        with _bars:
            yield
    else:
        _bars = _Lines()
        yield
    _bars = None


def progress(stage: str, done: int, total: int, note: str = "") -> None:
    """See `pipeline.progress.Progress`. Silent outside of `showing_progress`."""
    if isinstance(_bars, _Lines):
        _bars(stage, done, total, note)
    elif _bars is not None:
        known = {task.description: task.id for task in _bars.tasks}
        bar = known[stage] if stage in known else _bars.add_task(stage, total=total, note=note)
        _bars.update(bar, completed=done, total=total, note=note)


class _Lines:
    """For logs: the first and the last step of a stage, and one every few seconds."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._finished: dict[str, tuple[int, int]] = {}

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._finished.get(stage) == (done, total):
            return
        if done == total:
            self._finished[stage] = (done, total)
        if done < total and now - self._last.get(stage, -_LINES_EVERY_S) < _LINES_EVERY_S:
            return
        self._last[stage] = now
        print(f"{stage}: {done:,} of {total:,} {note}".rstrip(), file=sys.stderr, flush=True)


def step(text: str) -> None:
    """What a command does now, where that takes a while and cannot be counted."""
    err.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Something to know, beside what was asked for; also in the log of a worker."""
    err.print(f"Note: {text}", markup=False, soft_wrap=True)


@cache
def note_once(text: str) -> None:
    """As `note`, but each text once in a process."""
    note(text)


def table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """A plain table; numbers to the right, None as a dash."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for i, name in enumerate(header):
        drawn.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        drawn.add_row(*(_text(value) for value in row))
    out.print(drawn)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
