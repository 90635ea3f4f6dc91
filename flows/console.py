"""Console output: progress bars during work, plain lines without a terminal, tables at the end.

Untrusted text is shown literally: no rich markup and no control character reaches the terminal.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from nmcl.pipeline.escape import visible
from nmcl.pipeline.progress import Progress, finishing, silent


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Exit silently when the reader closes the pipe, as in `nmcl runs | head -1`."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        raise SystemExit(0)


_out = _Terminal(highlight=False)
_err = Console(stderr=True, highlight=False)

QUIET = "NMCL_QUIET"
"""Environment variable that leaves only errors and `write`; worker processes inherit it."""
SHORT = 200
"""Maximum length of a table cell or of the note next to a progress bar; longer ones are cut."""
_LINES_EVERY_S = 10.0
LOADING_AFTER_S = 0.7
"""Seconds after which a command that has shown nothing yet says that it is loading."""
_show: Progress = silent
_has_shown = threading.Event()


def say_if_loading() -> None:
    """Print a line on a terminal if nothing is shown soon: loading libraries takes seconds."""

    def loading() -> None:
        if not _has_shown.is_set() and not _is_quiet():
            step("Loading ...")

    if _err.is_terminal:
        timer = threading.Timer(LOADING_AFTER_S, loading)
        timer.daemon = True
        timer.start()


@contextmanager
def showing_progress() -> Iterator[None]:
    """Show the calls of `progress` within the block: as bars on a terminal, else as occasional lines.

    Bars that have not reached their end do so at the end of the block, unless it raises.
    """
    global _show
    try:
        with _drawn() as draw, finishing(draw) as _show:
            yield
    finally:
        _show = silent


@contextmanager
def _drawn() -> Iterator[Progress]:
    if _is_quiet():
        yield silent
    elif _err.is_terminal:
        columns = (
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Bars(*columns, console=_err) as bars:
            yield partial(_draw, bars)
    else:
        yield _Lines()


def _draw(bars: Bars, stage: str, done: int, total: int, note: str = "") -> None:
    known = {task.description: task.id for task in bars.tasks}
    bar = known[stage] if stage in known else bars.add_task(stage, total=total, note=note)
    bars.update(bar, completed=done, total=total, note=note)


def progress(stage: str, done: int, total: int, note: str = "") -> None:
    """Progress callback, see `nmcl.pipeline.progress.Progress`. Silent outside of `showing_progress`."""
    _has_shown.set()
    _show(visible(stage, SHORT), done, total, visible(note, SHORT))


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show that a block is at work whose steps cannot be counted, such as the start of a server."""
    progress(what, 0, 1)
    yield
    progress(what, 1, 1)


class _Lines:
    """Progress as log lines: the first and the last step of a stage, and one every few seconds."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._finished: dict[str, tuple[int, int]] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
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
    _has_shown.set()
    if _is_quiet():
        return
    _out.print(Text(visible(text, keep_lines=True)), soft_wrap=True)


def write(text: str) -> None:
    """Print lines for other programs unchanged. On a terminal, control characters are escaped."""
    _has_shown.set()
    if sys.stdout.isatty():
        text = "\n".join(visible(line, len(line) + 1) for line in text.split("\n"))
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _out.on_broken_pipe()


def step(text: str) -> None:
    """Print the current step of a command, for steps without a progress bar."""
    _has_shown.set()
    if _is_quiet():
        return
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
    _has_shown.set()
    if _is_quiet():
        return
    drawn = Table(title=_cell(title), title_justify="left", title_style="bold")
    fits = max(_cell(row[0]).cell_len for row in [header, *rows]) <= _out.width // 2
    for i, name in enumerate(header):
        drawn.add_column(_cell(name), justify="left" if i == 0 else "right", no_wrap=i == 0 and fits, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    _out.print(drawn)


def _is_quiet() -> bool:
    return bool(os.environ.get(QUIET))


def _cell(value: Any) -> Text:
    if value is None:
        return Text("–")
    if isinstance(value, float):
        return Text(f"{value:.3f}")
    return Text(f"{value:,}" if isinstance(value, int) else visible(str(value), SHORT))


def size(n_bytes: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    value, units = float(n_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:,.0f} {units[0]}" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"
