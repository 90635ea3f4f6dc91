"""Processes that help another one."""

import ctypes
import signal
from contextlib import suppress


def die_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Called in a child, so that a killed parent does not leave it behind.

    Linux only; elsewhere it has to be stopped by hand.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal_number))  # PR_SET_PDEATHSIG
