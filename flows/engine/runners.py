"""Prefect's task runners as workers: the only door to prefect-ray and prefect-dask.

Import this only with `PREFECT_API_URL` set, or within `nmcl.flows.service.server.embedded`: Prefect reads it on import.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import urlsplit

from prefect import Task
from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from nmcl.flows.engine_settings import (
    EngineSettings,
    interrupt,
    lacking,
    settle_in,
)
from nmcl.pipeline.errors import WorkerError

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # our own bars and messages speak on the console
}
RAY_OWN_ENVIRONMENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",  # of 60: its processes end so soon after a killed command
}
"""Of a cluster that a command starts for itself."""
RAY_TOKEN_FILE = Path(".ray/auth_token")
"""Below the home folder; where Ray looks for a cluster's token if the environment has none."""

ANSWERS_WITHIN_S = 10.0


class WorkerLost(Exception):
    """The process that worked on a task died."""


class Workers(Protocol):
    """Those who do tasks, as many at a time as the settings say."""

    def submit(self, task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
        """Give the task to a worker. No more than `EngineSettings.workers` may be under way."""

    def result(self, future: PrefectFuture[Any]) -> Any:
        """What a finished task returned or raised. Raises WorkerLost where its process died."""

    def tend(self) -> str:
        """Replace workers that are gone, where the engine has not. Called now and then while tasks are under way.

        Returns what they wait for, or nothing.
        """
        return ""


_kept: list[tuple[ExitStack, dict[EngineSettings, Workers]]] = []
"""Of the `keeping_workers` blocks that this process is in: what ends with them, and the workers."""


@contextmanager
def keeping_workers() -> Iterator[None]:
    """Workers that are started in the block stay for what comes later in it: starting them takes seconds."""
    with ExitStack() as stack:
        _kept.append((stack, {}))
        try:
            yield
        finally:
            _kept.pop()


@contextmanager
def start(engine: EngineSettings) -> Iterator[Workers]:
    """Workers of an engine, until the block ends, or that of `keeping_workers` around it."""
    if not _kept:
        with ENGINES[engine.name](engine) as workers:
            yield workers
        return
    stack, started = _kept[-1]
    if engine not in started:
        started[engine] = stack.enter_context(ENGINES[engine.name](engine))
    yield started[engine]


class _Single(Workers):
    """All workers are those of one task runner."""

    def __init__(
        self,
        runner: TaskRunner[Any],
        lost: tuple[type[BaseException], ...] = (),
        options: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._runner = runner
        self._lost = lost
        self._options = options

    def submit(self, task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
        with self._options():
            future: PrefectFuture[Any] = self._runner.submit(task, parameters)
            return future

    def result(self, future: PrefectFuture[Any]) -> Any:
        try:
            return future.result()
        except self._lost as error:
            raise WorkerLost from error


class _Cluster(_Single):
    """Engines wait without a word for nodes that may join, and for a cluster that is gone."""

    def __init__(self, engine: EngineSettings, *workers: Any) -> None:
        super().__init__(*workers)
        self._engine = engine

    def result(self, future: PrefectFuture[Any]) -> Any:
        try:
            return super().result(future)
        except WorkerLost:
            self._refuse_gone()
            raise

    def tend(self) -> str:
        self._refuse_gone()
        lack = self.lack()
        return f"waiting for {lack}" if lack else ""

    @abstractmethod
    def lack(self) -> str:
        """What the cluster has none of, if a worker cannot be had without."""

    def _refuse_gone(self) -> None:
        try:
            _knock(self._engine.address)
        except OSError as error:
            raise WorkerError(
                f"The {self._engine.name} cluster at {self._engine.address} does not answer any more: {error}. "
                "What was finished is kept; the same command goes on from there."
            ) from error


class _RayCluster(_Cluster):
    def __init__(self, ray: ModuleType, engine: EngineSettings, *workers: Any) -> None:
        super().__init__(engine, *workers)
        self._nodes = ray.nodes
        self._wanted = {"CPU": engine.threads_each, "GPU": engine.gpus}

    def lack(self) -> str:
        nodes = [node["Resources"] for node in self._nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= n for name, n in self._wanted.items()) for node in nodes):
            return ""
        return "a node with " + " and ".join(f"{n:g} {name}" for name, n in self._wanted.items() if n)


class _DaskCluster(_Cluster):
    def __init__(self, engine: EngineSettings, runner: Any, lost: tuple[type[BaseException], ...]) -> None:
        super().__init__(engine, runner, lost)
        self._client = runner.client

    def lack(self) -> str:
        return "" if self.n_alive else "a worker of the scheduler"

    @property
    def n_alive(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1).get("workers", ()))  # {} while it is not to be reached


class _OwnDask(_DaskCluster):
    """Dask starts a worker anew that died, but not one that died while it was starting."""

    _were_too_few = False

    def tend(self) -> str:
        n_alive, n_wanted = self.n_alive, self._engine.workers
        too_few = n_alive < n_wanted
        if too_few and self._were_too_few:
            self._client.cluster.scale(n_alive)  # gives up those that are not there
            self._client.cluster.scale(n_wanted)
        self._were_too_few = too_few and not self._were_too_few
        return ""


class _Processes(Workers):
    """Every worker is a runner of its own: a pool breaks with any of its processes, and the work of all is lost."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._idle: list[ProcessPoolTaskRunner] = []
        self._busy: dict[PrefectFuture[Any], ProcessPoolTaskRunner] = {}

    def submit(self, task: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
        runner = self._idle.pop() if self._idle else self._new()
        future: PrefectFuture[Any] = runner.submit(task, parameters)
        self._busy[future] = runner
        return future

    def _new(self) -> ProcessPoolTaskRunner:
        return self._stack.enter_context(ProcessPoolTaskRunner(max_workers=1, initializer=settle_in))

    def result(self, future: PrefectFuture[Any]) -> Any:
        runner = self._busy.pop(future)
        try:
            result = future.result()
        except BrokenProcessPool as error:
            raise WorkerLost from error
        self._idle.append(runner)
        return result


@contextmanager
def _processes(engine: EngineSettings) -> Iterator[Workers]:
    with ExitStack() as stack:
        try:
            yield _Processes(stack)
        except (KeyboardInterrupt, TerminationSignal):
            for worker in multiprocessing.active_children():  # they may not have heard it: it was for the command alone
                if worker.pid:
                    os.kill(worker.pid, signal.SIGINT)
            raise


@contextmanager
def _threads(engine: EngineSettings) -> Iterator[Workers]:
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=engine.workers)
    with runner:
        try:
            yield _Single(runner)
        except (KeyboardInterrupt, TerminationSignal):
            interrupt()
            raise


@contextmanager
def _ray(engine: EngineSettings) -> Iterator[Workers]:
    own_environment = {} if engine.address else RAY_OWN_ENVIRONMENT
    for name, value in (RAY_ENVIRONMENT | own_environment | ray_authentication(os.environ, Path.home())).items():
        os.environ.setdefault(name, value)
    ray, prefect_ray = _needed("ray", "ray"), _needed("prefect_ray", "ray")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    context = _needed("prefect_ray.context", "ray")
    # Without `max_calls` a process with a GPU would end after every part, and its model with it.
    wanted = {"num_cpus": engine.threads_each, "num_gpus": engine.gpus, "max_retries": 0, "max_calls": 0}
    quiet = {"log_to_driver": False, "configure_logging": False}
    own = {"num_cpus": engine.workers * engine.threads_each, "include_dashboard": False}
    runner = prefect_ray.RayTaskRunner(engine.address or "local", quiet if engine.address else quiet | own)
    exceptions = ray.exceptions
    lost = (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
        exceptions.LocalRayletDiedError,
        exceptions.ObjectLostError,
    )
    with _connected(runner, engine, ray.exceptions.AuthenticationError):
        yield _RayCluster(ray, engine, runner, lost, lambda: context.remote_options(**wanted))


def ray_authentication(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """Send a token where there is one: a cluster asks for it if it found one, but a client sends it only when told to.

    A cluster without a token takes no offence at one.
    """
    at_hand = environment.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} or (home / RAY_TOKEN_FILE).is_file()
    return {"RAY_AUTH_MODE": "token"} if at_hand else {}


@contextmanager
def _dask(engine: EngineSettings) -> Iterator[Workers]:
    dask, distributed = _needed("dask", "dask"), _needed("distributed", "dask")
    prefect_dask = _needed("prefect_dask", "dask")
    os.environ.setdefault("PREFECT_PLUGINS_ENABLED", "false")  # ours is for the command; workers have a loop already
    if engine.address:
        runner = prefect_dask.DaskTaskRunner(address=engine.address)
    else:
        cluster = {
            "n_workers": engine.workers,
            "threads_per_worker": 1,
            "memory_limit": 0,  # its guard would kill a worker for the memory of all
            "dashboard_address": None,
            "silence_logs": "CRITICAL",
        }
        runner = prefect_dask.DaskTaskRunner(cluster_kwargs=cluster)
    lost = (distributed.KilledWorker, distributed.client.FutureCancelledError)
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), _connected(runner, engine):
        yield (_DaskCluster if engine.address else _OwnDask)(engine, runner, lost)


@contextmanager
def _connected(runner: TaskRunner[Any], engine: EngineSettings, *refusals: type[BaseException]) -> Iterator[None]:
    refused: tuple[type[BaseException], ...] = (OSError, TimeoutError, ValueError, RuntimeError, *refusals)
    with ExitStack() as stack:
        try:
            _knock(engine.address)
            with _keeping_sigterm():
                stack.enter_context(runner)
            getattr(runner, "client", None)  # Dask's connects when it is first asked for
        except refused as error:
            where = f"at {engine.address}" if engine.address else "on this machine"
            raise WorkerError(f"No {engine.name} cluster can be had {where}: {error}") from error
        yield


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Ray's own handler would end the command at once, with the code 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """See whether anyone listens: Ray tries an address for a quarter of an hour, and ends the process it lost.

    Raises:
        OSError: nobody does.
        ValueError: it is no address.
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    if url.hostname and url.port:
        socket.create_connection((url.hostname, url.port), ANSWERS_WITHIN_S).close()


def _needed(module: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise WorkerError(lacking(extra, error.name)) from error


ENGINES: dict[str, Callable[[EngineSettings], AbstractContextManager[Workers]]] = {
    "processes": _processes,
    "threads": _threads,
    "ray": _ray,
    "dask": _dask,
}
