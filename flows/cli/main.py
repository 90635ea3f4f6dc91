"""Entry point of the `nmcl` command: registers its commands, and handles errors and signals."""

import gc
import io
import os
import signal
import sys
import threading
import traceback

from nmcl.flows import console
from nmcl.flows.cli.app import app as app
from nmcl.pipeline.errors import NmclError, UserError
from nmcl.pipeline.escape import visible
from nmcl.pipeline.os_errors import DISK_FAULTS, store_error
from nmcl.pipeline.scratch import sweep

# Importing these modules registers their commands, in the order in which `nmcl --help` lists them.
# isort: off
from nmcl.flows.cli import run, retrain, predict, report, export, status, explore, store, upkeep  # noqa: F401
from nmcl.flows.cli import settings, checks, serve, experiments  # noqa: F401
# isort: on

INTERRUPTED = 130
"""Exit code that Typer returns when a command is ended by Ctrl-C."""

_signals: list[int] = []
"""Signals other than Ctrl-C that ended the command."""


def _end_orderly(number: int, _: object) -> None:
    """Raise the same exception as Ctrl-C, so that all resources are cleaned up."""
    signal.signal(number, signal.SIG_IGN)
    _signals.append(number)
    raise KeyboardInterrupt


def _not_lost(lost: "sys.UnraisableHookArgs") -> None:
    """Repeat a signal that arrived where Python ignores exceptions, such as in a destructor."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        number = _signals.pop() if _signals else signal.SIGINT
        if number != signal.SIGINT:
            signal.signal(number, _end_orderly)
    elif _is_termination(lost.exc_value):
        number = signal.SIGTERM
    else:
        sys.__unraisablehook__(lost)
        return
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()


def main() -> None:
    """Entry point of the `nmcl` command: errors are printed as one sentence, without a traceback."""
    # Imported libraries are hundreds of thousands of objects and no garbage: looking for some again and again took half
    # a second of the eight of `nmcl predict` on one clip.
    gc.set_threshold(10_000)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # keep SIGHUP ignored under nohup
            signal.signal(number, _end_orderly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may be in any script
    sys.unraisablehook = _not_lost
    sweep()
    console.say_if_loading()
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.exit(_interrupted())
        raise
    except Exception as error:  # noqa: BLE001  # every error is printed as a sentence
        if _is_termination(error):
            _signals.append(signal.SIGTERM)
            sys.exit(_interrupted())
        if os.environ.get("NMCL_DEBUG"):
            traceback.print_exc()
        shown = _shown(error)
        if isinstance(shown, NmclError):
            _say(f"error: {shown}")
            sys.exit(shown.exit_code)
        found = f"{type(shown).__name__}: {str(shown)[:500]}"
        _say(f"error: {found}. This is a bug in nmcl: run again with --debug for the traceback.")
        sys.exit(1)


def _interrupted() -> int:
    """Report that the command was interrupted. Returns its exit code."""
    name = f"Ended by {signal.Signals(_signals[0]).name}" if _signals else "Interrupted"
    _say(f"{name}. Finished work is kept; run the same command to resume.")
    return 128 + _signals[0] if _signals else INTERRUPTED


def _is_termination(error: BaseException | None) -> bool:
    """Return whether SIGTERM caused an error: Prefect raises it anywhere within a flow, and others may wrap it."""
    while error is not None:
        if "TerminationSignal" in f"{type(error).__name__}: {error}":
            return True
        error = error.__cause__ or error.__context__
    return False


def _shown(error: Exception) -> Exception:
    """Return the error, reworded for the user if the disk or a lack of memory caused it."""
    if isinstance(error, MemoryError):
        return UserError("Out of memory. Finished work is kept: close other programs, and run the same command again.")
    if isinstance(error, OSError) and error.errno in DISK_FAULTS:
        return store_error(error, str(error.filename or "A file of this command"), "written")
    return error


def _say(text: str) -> None:
    print(visible(text, keep_lines=True), file=sys.stderr)
