"""Start, interruption and retries of a worker process.

This module imports little, so that a worker handles Ctrl-C before it loads anything else.
"""

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable
from typing import TypeVar

from nmcl.pipeline.errors import NmclError
from nmcl.pipeline.os_errors import is_transient

R = TypeVar("R")

RETRY_DELAYS_S = (2.0, 4.0, 8.0)
JITTER = 0.5
_interrupted = threading.Event()


class Interrupted(Exception):
    """Raised in an interrupted part. Not a KeyboardInterrupt, which would keep Prefect's task runners from ending."""


def interrupt() -> None:
    """Make the parts that this process works on raise Interrupted at their next step."""
    _interrupted.set()


def until_interrupted(stage: str, done: int, total: int, note: str = "") -> None:
    """Silent `nmcl.pipeline.progress.Progress` that raises Interrupted after `interrupt`."""
    if _interrupted.is_set():
        raise Interrupted


def init_worker() -> None:
    """Initialize a worker process: Ctrl-C interrupts its part, and it ends when the command's process ends."""
    signal.signal(signal.SIGINT, lambda *_: interrupt())
    command = multiprocessing.parent_process()
    if command is not None:
        threading.Thread(target=_end_after, args=(command,), daemon=True).start()


def _end_after(command: multiprocessing.process.BaseProcess) -> None:
    command.join()
    os._exit(1)


def retried(work: Callable[[], R]) -> R:
    """Call a function and return its result. I/O errors that may be transient are retried three times."""
    for delay_s in RETRY_DELAYS_S:
        try:
            return work()
        except (OSError, NmclError) as error:
            if not is_transient(error):
                raise
        if _interrupted.wait(delay_s * random.uniform(1.0, 1.0 + JITTER)):
            break
    return work()
