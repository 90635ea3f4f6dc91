"""The engines and their settings. Nothing here imports Prefect."""

import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from nmcl.pipeline.errors import SettingsError, WorkerError


@dataclass(frozen=True)
class Engine:
    """Capabilities and requirements of an engine."""

    start: str = "nmcl.flows.engine.runners:on_this_machine"
    """Import path of the function that starts its workers: a context manager that takes `EngineSettings`."""
    packages: tuple[str, ...] = ()
    """Optional packages that it imports. The extra of nmcl that installs them is named after the engine."""
    is_cluster: bool = False
    """Whether its workers may be on other machines, so that it needs a Prefect server."""
    has_gpus: bool = False
    """Whether it assigns GPUs to workers."""
    shares_process: bool = False
    """Whether its workers are threads of the command's process."""
    has_daemons: bool = False
    """Whether its workers are daemon processes, which may not start child processes."""


ENGINES = {
    "processes": Engine(),
    "threads": Engine(shares_process=True),
    "ray": Engine("nmcl.flows.engine.clusters:ray", ("ray", "prefect_ray"), is_cluster=True, has_gpus=True),
    "dask": Engine(
        "nmcl.flows.engine.clusters:dask",
        ("dask", "distributed", "prefect_dask"),
        is_cluster=True,
        has_daemons=True,
    ),
}

if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[tuple(ENGINES)]


@dataclass(frozen=True)
class EngineSettings:
    """Settings of the engine that processes the parts of a crawl. They do not change vectors."""

    name: EngineName = "processes"
    """`processes`, `threads`, `ray` or `dask`. With one worker, `processes` and `threads` use the command's own
    process."""
    workers: Annotated[int, Ge(1)] = 1
    """Number of parts processed in parallel."""
    address: str = ""
    """Address of a running Ray or Dask cluster; empty: a local cluster for the duration of the command."""
    threads: Annotated[int, Ge(0)] = 0
    """Processor threads of a worker; 0: this machine's cores divided by the workers, 1 on a cluster."""
    gpus: Annotated[float, Ge(0)] = 0.0
    """GPUs of each Ray worker; with a fraction such as 0.5 two workers share one."""

    @property
    def kind(self) -> Engine:
        """The chosen engine."""
        return ENGINES[self.name]

    @property
    def is_own_process(self) -> bool:
        """Whether the command processes the parts sequentially in its own process."""
        return self.workers == 1 and not self.kind.is_cluster

    @property
    def needs_prefect(self) -> bool:
        """Whether Prefect distributes the parts: to a cluster, or if the user has a server."""
        return self.kind.is_cluster or bool(os.environ.get("PREFECT_API_URL"))

    @property
    def threads_each(self) -> int:
        """Number of processor threads of one worker."""
        return self.threads or (1 if self.address else max(1, cores() // self.workers))

    @property
    def threads_of_process(self) -> int:
        """Number of processor threads of a process that processes parts: all workers of `threads` share one process."""
        return self.threads_each * (self.workers if self.kind.shares_process else 1)

    def check(self) -> None:
        """Raise SettingsError if the settings contradict each other."""
        if self.address and not self.kind.is_cluster:
            clusters = [name for name, engine in ENGINES.items() if engine.is_cluster]
            raise SettingsError(
                f"engine.address is {self.address!r}, but only {' and '.join(clusters)} use clusters: "
                f"--engine {clusters[0]}"
            )
        if self.gpus and not self.kind.has_gpus:
            raise SettingsError(f"engine.gpus is {self.gpus:g}, but only ray assigns GPUs: --engine ray")


def require_packages(engine: str) -> None:
    """Raise WorkerError if packages that an engine needs are not installed."""
    for module in ENGINES[engine].packages:
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            raise WorkerError(lacking(engine, module))


def lacking(engine: str, module: str | None) -> str:
    """Return the error message that a module of an engine is not installed."""
    return (
        f"The engine {engine} needs packages that are not installed (no module {module}). Install them: "
        f"{sys.executable} -m pip install -c constraints.txt 'nmcl[{engine}]'"
    )


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
