"""A disk that fails at the n-th write below a folder: `disk.c`, preloaded into commands."""

import ctypes
import errno
import json
import mmap
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.faults.processes import LIMIT_S
from tests.faults.world import ROOT, environment

SOURCE = Path(__file__).with_name("disk.c")


class Order(ctypes.Structure):
    """What all processes of a command share with the test, as in `disk.c`."""

    _fields_ = (
        ("calls", ctypes.c_long),
        ("at", ctypes.c_long),
        ("error", ctypes.c_int),
        ("forever", ctypes.c_int),
        ("folder", ctypes.c_char * 4096),
    )


class Disk:
    """Runs commands one after the other on a disk that does as it is asked to."""

    def __init__(self, server: "subprocess.Popen[str]", order: Order, scratch: Path) -> None:
        self._server = server
        self._order = order
        self._said = scratch / "said"

    def run(self, words: list[str], folder: Path, at: int = 0, error: int = errno.EIO, forever: bool = False) -> int:
        """Exit code of a command whose `at`-th write below a folder fails, and all later ones if `forever`; 0: none."""
        self._order.calls, self._order.at = 0, at
        self._order.error, self._order.forever, self._order.folder = error, forever, str(folder).encode()
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps([words, str(self._said)]), file=self._server.stdin, flush=True)
        code = int(self._answer())
        self._order.at, self._order.folder = 0, b""
        return code

    def _answer(self) -> str:
        ready, _, _ = select.select([self._server.stdout], [], [], LIMIT_S)
        if not ready:
            for child in psutil.Process(self._server.pid).children(recursive=True):
                child.kill()
        assert self._server.stdout
        line = self._server.stdout.readline()
        assert ready, f"no end within {LIMIT_S:g} s: {self.said}"
        return line

    @property
    def calls(self) -> int:
        """Writes of the last command."""
        return int(self._order.calls)

    @property
    def said(self) -> str:
        """What the last command printed."""
        return self._said.read_text()


@contextmanager
def failing_disk(scratch: Path) -> Iterator[Disk]:
    """A disk for commands; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, which makes a disk that fails")
    library, shared = scratch / "disk.so", scratch / "order"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    shared.write_bytes(bytes(ctypes.sizeof(Order)))
    with shared.open("r+b") as file:
        order = Order.from_buffer(mmap.mmap(file.fileno(), 0))
    env = environment(scratch) | {"LD_PRELOAD": str(library), "NMCL_TEST_DISK": str(shared)}
    command = [sys.executable, "-m", "tests.faults.forks"]
    with (scratch / "log").open("w") as log:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        server = subprocess.Popen(command, cwd=ROOT, env=env, text=True, **pipes)  # type: ignore[call-overload]
    try:
        assert server.stdout.readline() == "ready\n", (scratch / "log").read_text()
        yield Disk(server, order, scratch)
    finally:
        server.communicate()
