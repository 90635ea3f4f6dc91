"""Child process helpers."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """End a child process when its parent dies; call it in the child.

    Linux only; elsewhere it has to be stopped by hand.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal_number))  # PR_SET_PDEATHSIG


QUIET_TRACKER = {"PYTHONWARNINGS": "ignore:resource_tracker:UserWarning"}
"""Environment of processes that start others: no warning at exit about resources of a killed process."""

_starting = threading.Lock()


@contextmanager
def without_main() -> Iterator[None]:
    """Let a process that is spawned within the block start without importing the user's script again.

    The script may lack `if __name__ == "__main__"`, and would then do its work again in every child.
    """
    with _starting:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


_watched = threading.Lock()
PARENT_SOUGHT_EVERY_S = 0.5


def end_after_parent(parent: int) -> None:
    """End a child soon after its parent, however that ends; call it in the child, any number of times.

    A thread polls the parent: unlike `die_with_parent`, it works whichever thread of the parent started the child.

    Args:
        parent: Process id.
    """
    if _watched.acquire(blocking=False):  # once per process
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SOUGHT_EVERY_S)
    os._exit(1)
