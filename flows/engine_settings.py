"""Who works on the parts of a crawl: the settings of the engine, and how a worker process settles in.

This never imports Prefect; `nmcl.flows.engine.runners` has its task runners.
"""

import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from annotated_types import Ge

from nmcl.pipeline.errors import SettingsError, WorkerError

EngineName = Literal["processes", "threads", "ray", "dask"]
ENGINES: tuple[str, ...] = get_args(EngineName)


@dataclass(frozen=True)
class EngineSettings:
    """Who works on the parts of a crawl, and how many at a time. Changes no vector."""

    name: EngineName = "processes"
    """Prefect's task runner. One worker of `processes` or `threads` is the command's own process."""
    workers: Annotated[int, Ge(1)] = 1
    """Parts at a time."""
    address: str = ""
    """Of a Ray or Dask cluster that runs; empty: one on this machine, for as long as the command takes."""
    threads: Annotated[int, Ge(0)] = 0
    """Processor threads of a worker; 0: this machine's cores shared out among its workers, 1 on a cluster."""
    gpus: Annotated[float, Ge(0)] = 0.0
    """Of each Ray worker; with a share such as 0.5 two use one together."""

    @property
    def is_own_process(self) -> bool:
        """Whether the parts are done in turn, where the command runs."""
        return self.workers == 1 and self.name in ("processes", "threads")

    @property
    def threads_each(self) -> int:
        """Processor threads of one worker."""
        return self.threads or (1 if self.address else max(1, cores() // self.workers))

    @property
    def threads_of_process(self) -> int:
        """Processor threads of a process that does parts: `threads` are workers of one process."""
        return self.threads_each * (self.workers if self.name == "threads" else 1)

    def check(self) -> None:
        """Raises SettingsError where the settings contradict each other."""
        if self.address and self.name not in ("ray", "dask"):
            raise SettingsError(
                f"engine.address is {self.address!r}, but only ray and dask know clusters: --engine ray"
            )
        if self.gpus and self.name != "ray":
            raise SettingsError(f"engine.gpus is {self.gpus:g}, but only ray hands out GPUs: --engine ray")


PACKAGES = {"ray": ("ray", "prefect_ray"), "dask": ("dask", "distributed", "prefect_dask")}
"""What engines need besides nmcl itself."""


def require_packages(engine: str) -> None:
    """Raises WorkerError where packages that an engine needs are not installed."""
    for module in PACKAGES.get(engine, ()):
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            raise WorkerError(lacking(engine, module))


def lacking(engine: str, module: str | None) -> str:
    """What to say where a module is not installed."""
    return (
        f"The engine {engine} needs packages that are not installed (no module {module}). Install them: "
        f"{sys.executable} -m pip install -c constraints.txt 'nmcl[{engine}]'"
    )


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_interrupted = threading.Event()


class Interrupted(Exception):
    """A part was left unfinished. No KeyboardInterrupt: one out of a task leaves Prefect's runners unable to end."""


def interrupt() -> None:
    """Let the parts that this process works on end early, by an error."""
    _interrupted.set()


def settle_in() -> None:
    """What a process of `processes` does first: hear Ctrl-C without falling over it, and end when the command does."""
    signal.signal(signal.SIGINT, lambda *_: interrupt())
    command = multiprocessing.parent_process()
    if command is not None:
        threading.Thread(target=_end_after, args=(command,), daemon=True).start()


def until_interrupted(stage: str, done: int, total: int, note: str = "") -> None:
    """A silent `nmcl.pipeline.progress.Progress` that raises Interrupted in a worker that is to end early."""
    if _interrupted.is_set():
        raise Interrupted


def _end_after(command: multiprocessing.process.BaseProcess) -> None:
    command.join()
    os._exit(1)
