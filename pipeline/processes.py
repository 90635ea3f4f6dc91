"""Processes that help another one."""

import ctypes
import os
import signal
import threading
import time
from contextlib import suppress


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Called in a child, so that a killed parent does not leave it behind.

    Linux only; elsewhere it has to be stopped by hand.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal_number))  # PR_SET_PDEATHSIG


QUIET_TRACKER = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
"""Environment of processes that start others: no warning at exit about what a killed process did not release."""

_watched = threading.Lock()
PARENT_SOUGHT_EVERY_S = 0.5


def end_after_parent(parent: int) -> None:
    """Called in a child, any number of times: end it soon after its parent, however that ends.

    A thread looks for the parent: unlike `die_with_parent`, it does not mind which thread of the parent made the child.

    Args:
        parent: process id.
    """
    if _watched.acquire(blocking=False):  # once in a process
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SOUGHT_EVERY_S)
    os._exit(1)
