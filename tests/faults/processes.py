"""A command that is watched from outside: its processes by kind, and the stage that it is in."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import psutil

from tests.faults.world import NMCL, environment

Kind = Literal["main", "decoder", "idle decoder", "new decoder", "engine worker", "server", "ffmpeg"]
LIMIT_S = 600.0
"""No stage of `world.py` takes as long, on any machine and beside any other work."""


@dataclass
class Watched:
    """A running command on the store `out` in a folder."""

    words: list[str]
    folder: Path
    crawls: Path
    """Where all crawls are: who has a file below it open is decoding."""
    name: str = "command"
    """Of the file for what it prints."""
    seen: dict[int, psutil.Process] = field(default_factory=dict)
    """Every process that was seen of it, by number."""

    def __post_init__(self) -> None:
        self._said = self.folder.parent / f"{self.folder.name}.{self.name}"
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [NMCL, *self.words],
                env=environment(self.folder.parent / "home"),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # ignored under nohup
            )

    @property
    def said(self) -> str:
        """All that it printed so far."""
        return self._said.read_text()

    def has_said(self, beginning: str) -> bool:
        """Whether a line of it begins so."""
        return any(line.startswith(beginning) for line in self.said.splitlines())

    def find(self, kind: Kind) -> int | None:
        """The number of one of its processes of a kind, as of now."""
        pid = self.process.pid
        match kind:
            case "main":
                return pid
            case "server":
                return _first(p for p in self.family if "prefect server start" in _words(p))
            case "ffmpeg":
                return _first(p for p in self.family if "ffmpeg" in Path(f"/proc/{p}/comm").read_text())
            case "engine worker":
                return _first(p for p in _children(pid) if _is_spawned(p))
            case "decoder":
                return _first(p for p in self._decoders() if self._is_reading(p))
            case "idle decoder":
                return _first(p for p in self._decoders() if _has_loaded(p, "libavcodec") and not self._is_reading(p))
            case "new decoder":
                return _first(p for p in self._decoders() if not _has_loaded(p, "libavcodec"))

    def holds(self, path: Path) -> bool:
        """Whether it has a file open."""
        return str(path) in _open_files(self.process.pid)

    def kill_when(self, kind: Kind, ready: Callable[[], bool], number: signal.Signals = signal.SIGKILL) -> bool:
        """Kill a process of a kind once there is one and `ready` says so; False where the command ended first."""
        end = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"no {kind} at the moment wanted: {self.said}"
            with suppress(OSError, psutil.NoSuchProcess):
                if ready() and (pid := self.find(kind)):
                    self._remember()
                    os.kill(pid, number)
                    return True
            time.sleep(0.002)
        return False

    def end(self) -> int:
        """Wait for it. Returns its exit code; afterwards no process of it is left."""
        code = self.process.wait(LIMIT_S)
        _, left = psutil.wait_procs(self.seen.values(), 20)
        for process in left:
            process.kill()
        assert not left, f"left behind: {left}"
        return code

    @property
    def family(self) -> list[int]:
        """The processes that it started, and theirs."""
        return [p for child in _children(self.process.pid) for p in (child, *_descendants(child))]

    def _decoders(self) -> Iterator[int]:
        """Of the processes that Python spawned, those that spawned none; with an engine, those of its workers."""
        spawned = [p for p in _children(self.process.pid) if _is_spawned(p)]
        if "--engine" in self.words:
            spawned = [p for worker in spawned for p in _children(worker) if _is_spawned(p)]
        return iter(spawned)

    def _is_reading(self, pid: int) -> bool:
        return any(name.startswith(f"{self.crawls}/") for name in _open_files(pid))

    def _remember(self) -> None:
        for pid in [self.process.pid, *self.family]:
            with suppress(psutil.NoSuchProcess):
                self.seen.setdefault(pid, psutil.Process(pid))


def _first(pids: Iterator[int]) -> int | None:
    return next(pids, None)


def _children(pid: int) -> list[int]:
    found = []
    for thread in os.scandir(f"/proc/{pid}/task"):
        with suppress(OSError):
            found += [int(word) for word in Path(thread.path, "children").read_text().split()]
    return found


def _descendants(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for child in _children(pid):
            yield child
            yield from _descendants(child)


def _open_files(pid: int) -> list[str]:
    names = []
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                names.append(os.readlink(entry.path))
    return names


def _words(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def _is_spawned(pid: int) -> bool:
    return "spawn_main" in _words(pid)


def _has_loaded(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()
