"""Ray and Dask clusters as workers: the only module that imports prefect-ray and prefect-dask.

Import this only with `PREFECT_API_URL` set, or within `nmcl.flows.service.server.embedded`: Prefect reads it on import.
"""

import logging
import os
import signal
import socket
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from prefect.task_runners import TaskRunner

from nmcl.flows.engine.runners import submit_to
from nmcl.flows.engine_settings import EngineSettings, lacking
from nmcl.flows.run.workers import Future, Job, Submit, WorkerLost, Workers
from nmcl.pipeline.errors import WorkerError

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # the console shows only nmcl's progress bars and messages
}
RAY_OWN_ENVIRONMENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",  # default 60: its processes end so soon after a killed command
}
"""Environment of a cluster that a command starts for itself."""
RAY_TOKEN_FILE = Path(".ray/auth_token")
"""Path below the home folder where Ray looks for a cluster's token if the environment has none."""

ANSWERS_WITHIN_S = 10.0


class _Cluster(Workers):
    """Workers of a cluster. Detects what engines do not report: a lost cluster, or no node that fits a job."""

    def __init__(self, engine: EngineSettings, submit: Submit, lost: tuple[type[BaseException], ...]) -> None:
        super().__init__(submit, lost)
        self._engine = engine

    def result(self, future: Future) -> Any:
        try:
            return super().result(future)
        except WorkerLost:
            self._refuse_gone()
            raise

    def check(self) -> str:
        self._refuse_gone()
        lack = self.lack()
        return f"waiting for {lack}" if lack else ""

    @abstractmethod
    def lack(self) -> str:
        """Return the resource that a job needs and the cluster does not have; empty if there is none."""

    def _refuse_gone(self) -> None:
        try:
            _check_reachable(self._engine.address)
        except OSError as error:
            raise WorkerError(
                f"The {self._engine.name} cluster at {self._engine.address} no longer responds: {error}. "
                "Finished work is kept; run the same command to resume."
            ) from error


class _RayCluster(_Cluster):
    def __init__(
        self, ray: ModuleType, engine: EngineSettings, submit: Submit, lost: tuple[type[BaseException], ...]
    ) -> None:
        super().__init__(engine, submit, lost)
        # Not `ray.nodes`: it aborts this process if the cluster stops at that moment (Ray's issue 56148).
        self._gcs = import_module("ray._raylet").GcsClient(address=ray.get_runtime_context().gcs_address)
        self._no_answer = ray.exceptions.RpcError
        self._wanted = {"CPU": engine.threads_each, "GPU": engine.gpus}

    def lack(self) -> str:
        try:
            found = self._gcs.get_all_node_info(timeout=ANSWERS_WITHIN_S).values()
        except self._no_answer:
            return "an answer from Ray"
        nodes = [node.resources_total for node in found if node.state == node.ALIVE]
        if any(all(node.get(name, 0) >= n for name, n in self._wanted.items()) for node in nodes):
            return ""
        return "a node with " + " and ".join(f"{n:g} {name}" for name, n in self._wanted.items() if n)


class _DaskCluster(_Cluster):
    def __init__(self, engine: EngineSettings, runner: Any, lost: tuple[type[BaseException], ...]) -> None:
        super().__init__(engine, submit_to(runner), lost)
        self._client = runner.client

    def lack(self) -> str:
        return "" if self.n_alive else "a worker of the scheduler"

    @property
    def n_alive(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1).get("workers", ()))  # {} if the scheduler is unreachable


class _OwnDask(_DaskCluster):
    """Restarts workers that died while starting; Dask restarts only those that died later."""

    _were_too_few = False

    def check(self) -> str:
        n_alive, n_wanted = self.n_alive, self._engine.workers
        too_few = n_alive < n_wanted
        if too_few and self._were_too_few:
            self._client.cluster.scale(n_alive)  # removes the workers that are gone
            self._client.cluster.scale(n_wanted)
        self._were_too_few = too_few and not self._were_too_few
        return ""


@contextmanager
def ray(engine: EngineSettings) -> Iterator[Workers]:
    """Connect to a Ray cluster, or start one on this machine. Raises WorkerError if that fails."""
    own_environment = {} if engine.address else RAY_OWN_ENVIRONMENT
    for name, value in (RAY_ENVIRONMENT | own_environment | ray_authentication(os.environ, Path.home())).items():
        os.environ.setdefault(name, value)
    module, prefect_ray = _needed("ray", "ray"), _needed("prefect_ray", "ray")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    context = _needed("prefect_ray.context", "ray")
    # Without `max_calls` a process with a GPU would end after every part, and lose its loaded model.
    wanted = {"num_cpus": engine.threads_each, "num_gpus": engine.gpus, "max_retries": 0, "max_calls": 0}
    quiet = {"log_to_driver": False, "configure_logging": False}
    own = {"num_cpus": engine.workers * engine.threads_each, "include_dashboard": False}
    runner = prefect_ray.RayTaskRunner(engine.address or "local", quiet if engine.address else quiet | own)
    exceptions = module.exceptions
    lost = (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
        exceptions.LocalRayletDiedError,
        exceptions.ObjectLostError,
    )

    def submit(job: Job) -> Future:
        with context.remote_options(**wanted):
            return submit_to(runner)(job)

    with _connected(runner, engine, exceptions.AuthenticationError):
        yield _RayCluster(module, engine, submit, lost)


def ray_authentication(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment that makes Ray authenticate with a token, if one is available.

    Clusters without authentication ignore it.
    """
    has_token = environment.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} or (home / RAY_TOKEN_FILE).is_file()
    return {"RAY_AUTH_MODE": "token"} if has_token else {}


@contextmanager
def dask(engine: EngineSettings) -> Iterator[Workers]:
    """Connect to a Dask cluster, or start one on this machine. Raises WorkerError if that fails."""
    module, distributed = _needed("dask", "dask"), _needed("distributed", "dask")
    prefect_dask = _needed("prefect_dask", "dask")
    os.environ.setdefault("PREFECT_PLUGINS_ENABLED", "false")  # ours is for the command; workers already have a loop
    if engine.address:
        runner = prefect_dask.DaskTaskRunner(address=engine.address)
    else:
        cluster = {
            "n_workers": engine.workers,
            "threads_per_worker": 1,
            "memory_limit": 0,  # Dask's limit would kill a worker for the memory of all workers
            "dashboard_address": None,
            "silence_logs": "CRITICAL",
        }
        runner = prefect_dask.DaskTaskRunner(cluster_kwargs=cluster)
    lost = (distributed.KilledWorker, distributed.client.FutureCancelledError)
    with module.config.set({"distributed.scheduler.allowed-failures": 0}), _connected(runner, engine):
        yield (_DaskCluster if engine.address else _OwnDask)(engine, runner, lost)


@contextmanager
def _connected(runner: TaskRunner[Any], engine: EngineSettings, *refusals: type[BaseException]) -> Iterator[None]:
    refused: tuple[type[BaseException], ...] = (OSError, TimeoutError, ValueError, RuntimeError, *refusals)
    with ExitStack() as stack:
        try:
            _check_reachable(engine.address)
            with _keeping_sigterm():
                stack.enter_context(runner)
            getattr(runner, "client", None)  # Dask connects on the first access to the client
        except refused as error:
            step = f"connect to the {engine.name} cluster at {engine.address}"
            if not engine.address:
                step = f"start a {engine.name} cluster on this machine"
            raise WorkerError(f"Cannot {step}: {error}") from error
        yield


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """Restore the SIGTERM handler after the block: Ray's own would end the command at once, with exit code 15."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_reachable(address: str) -> None:
    """Check that a cluster accepts connections. Ray itself would try for 15 minutes, and then end this process.

    Raises:
        OSError: If nothing listens there.
        ValueError: If it is not an address.
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    if url.hostname and url.port:
        socket.create_connection((url.hostname, url.port), ANSWERS_WITHIN_S).close()


def _needed(module: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise WorkerError(lacking(extra, error.name)) from error
