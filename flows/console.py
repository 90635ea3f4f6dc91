"""Console output: progress bars during work, plain lines without a terminal, tables at the end.

Untrusted text is shown literally: no rich markup and no control character reaches the terminal.
"""

import os
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
from rich.text import Text

from nmcl.pipeline.escape import visible


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Exit silently when the reader closes the pipe, as in `nmcl runs | head -1`."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        raise SystemExit(0)


_out = _Terminal(highlight=False)
_err = Console(stderr=True, highlight=False)

SHORT = 200
"""Maximum length of a table cell or of the note next to a progress bar; longer ones are cut."""
_LINES_EVERY_S = 10.0
_bars: "Bars | _Lines | None" = None


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show the calls of `progress` within the block: as bars on a terminal, else as occasional lines."""
    global _bars
    try:
        if _err.is_terminal:
            columns = (
                TextColumn("{task.description:<28}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
            )
            _bars = Bars(*columns, console=_err)
            with _bars:
                yield
        else:
            _bars = _Lines()
            yield
    finally:
        _bars = None


def progress(stage: str, done: int, total: int, note: str = "") -> None:
    """Progress callback, see `nmcl.pipeline.progress.Progress`. Silent outside of `showing_progress`."""
    stage, note = visible(stage, SHORT), visible(note, SHORT)
    if isinstance(_bars, _Lines):
        _bars(stage, done, total, note)
    elif _bars is not None:
        known = {task.description: task.id for task in _bars.tasks}
        bar = known[stage] if stage in known else _bars.add_task(stage, total=total, note=note)
        _bars.update(bar, completed=done, total=total, note=note)


class _Lines:
    """Progress as log lines: the first and the last step of a stage, and one every few seconds."""

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


def say(text: str) -> None:
    """Print one line of requested output."""
    _out.print(Text(visible(text, keep_lines=True)), soft_wrap=True)


def write(text: str) -> None:
    """Print lines for other programs unchanged. On a terminal, control characters are escaped."""
    if sys.stdout.isatty():
        text = "\n".join(visible(line, len(line) + 1) for line in text.split("\n"))
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _out.on_broken_pipe()


def step(text: str) -> None:
    """Print the current step of a command, for steps without a progress bar."""
    _err.print(Text(visible(text, keep_lines=True)), soft_wrap=True)


def note(text: str) -> None:
    """Print a note next to the requested output; it also goes to the log of a worker."""
    step(f"Note: {text}")


@cache
def note_once(text: str) -> None:
    """Print a note, but each text only once per process."""
    note(text)


def table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print a plain table; numbers are right-aligned, None is a dash. Long words are broken, and nothing is cut."""
    drawn = Table(title=_cell(title), title_justify="left", title_style="bold")
    for i, name in enumerate(header):
        drawn.add_column(_cell(name), justify="left" if i == 0 else "right", no_wrap=i == 0, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    _out.print(drawn)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("–")
    if isinstance(value, float):
        return Text(f"{value:.3f}")
    return Text(f"{value:,}" if isinstance(value, int) else visible(str(value), SHORT))
