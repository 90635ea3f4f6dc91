"""The permanent server and worker that `nmcl up` starts and `nmcl down` stops.

Like `nmcl.flows.service.server` this never imports Prefect. The running processes are recorded in a file by id and
start time, so that another process that later gets the same id is neither trusted nor stopped.
"""

import fcntl
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import psutil
from annotated_types import Ge

from nmcl.flows.service.database import Database
from nmcl.flows.service.orphans import ask, mark_orphaned
from nmcl.flows.service.server import (
    CONSOLE,
    HOST,
    PREFECT,
    QUIET,
    ServerError,
    answers,
    default_home,
    free_port,
    rotate_large_logs,
    spawn,
    wait_until,
)
from nmcl.flows.service.server import start as start_server
from nmcl.flows.service.server import wait_until_ready as wait_for_server
from nmcl.pipeline.os_errors import translated, writing
from nmcl.pipeline.storage.files import write_whole
from nmcl.pipeline.storage.shapes import parse_record

Say = Callable[[str], None]

_ROOT = Path(__file__).resolve().parents[2]
"""Root of the repository, or of the installed package. Both hold `prefect.yaml`."""
POOL = "nmcl"
PORT = "PREFECT_SERVER_API_PORT"
"""Environment variable with the server's port. Default: Prefect's own port, or any free port if it is in use."""
DEFAULT_PORT = 4200
SQLITE = "SQLite"
STOPS_WITHIN_S = 20.0
ANSWERS_WITHIN_S = 30.0
"""Seconds within which a busy server must answer; a slower one is restarted."""
SETTINGS = {
    **{name: value for name, value in QUIET.items() if name not in CONSOLE},
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    # A store held by a killed run is released even if the server was restarted in between.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
}


@dataclass(frozen=True)
class Running:
    """A process that was started."""

    pid: Annotated[int, Ge(1)]
    born: float
    """Start time, in seconds since 1970."""

    @classmethod
    def of(cls, pid: int) -> "Running":
        """Return the process that currently has this id."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process itself, while it runs."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.born) < 2 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


@dataclass(frozen=True)
class Service:
    """A server and its worker."""

    url: str
    """Address of the API."""
    worker_name: str
    server: Running
    worker: Running | None = None
    database: str = SQLITE
    """Displayed address, without a password."""

    @property
    def ui(self) -> str:
        """Address of the web UI."""
        return self.url.removesuffix("/api")

    @property
    def is_whole(self) -> bool:
        """Whether both server and worker are running."""
        return all(running is not None and running.process() for running in (self.server, self.worker))


def home() -> Path:
    """Return the folder of the database, the logs and the record of running processes."""
    return default_home() / "service"


def working_folder() -> Path:
    """Return the folder for relative crawls and stores: a clone of the repository, else the current folder."""
    return _ROOT if is_clone() else Path.cwd()


def is_clone() -> bool:
    """Return whether the code runs in a clone of the repository, where pyproject.toml enables Prefect's plug-ins."""
    return (_ROOT / "pyproject.toml").exists()


def running() -> Service | None:
    """Return the service that `up` started, if it is still running."""
    service = _noted()
    return service if service and service.is_whole else None


def up(database_url: str | None, watch: Path | None, out: Path | None, say: Say) -> Service:
    """Start server and worker unless they are running, and register the deployments of `prefect.yaml`.

    If the server responds, only a worker that has ended is restarted. Otherwise both are started.

    Args:
        database_url: Address of a PostgreSQL database; None: the database is SQLite.
        watch: Folder to watch for new crawls.
        out: Store that ingests these crawls: see `nmcl.flows.engine.sweep`.
        say: Receives messages about each step.

    Raises:
        ServerError: If one of them does not start, refuses a deployment, or runs with another database.
    """
    database = Database.parse(database_url) if database_url else None
    with _one_at_a_time():
        service = _noted()
        if service is None or not service.server.process() or not answers(service.url, ANSWERS_WITHIN_S):
            service = _start(database, service, say)
        elif database and database.shown != service.database:
            raise ServerError(
                f"The server running at {service.ui} uses the database {service.database}, not {database.shown}. "
                "Stop it first: `nmcl down`."
            )
        elif not service.is_whole:
            service = _start_worker(service, service.worker_name, say)
        rotate_large_logs(home())
        say("Registering the deployments ...")
        _register(service, {"NMCL_WATCH": watch, "NMCL_OUT": out})
        _schedule_sweep(service, is_active=watch is not None)
        return service


def down() -> bool:
    """Stop what `up` started, including runs in progress. Returns whether anything was running."""
    if not home().exists():
        return False
    with _one_at_a_time():
        return _stop_noted()


def _start(database: Database | None, before: Service | None, say: Say) -> Service:
    """Start server and worker if neither is usable.

    Args:
        before: The previous service; one of its processes may still run.
    """
    _stop_noted()
    try:
        say("Starting the server ...")
        service = _start_server(database)
        return _start_worker(service, before.worker_name if before else None, say)
    except BaseException:
        _stop_noted()
        raise


def _start_server(database: Database | None) -> Service:
    if database:
        database.require_answer()
    folder, port = home(), free_port(int(os.environ.get(PORT, DEFAULT_PORT)))
    url, name = f"http://{HOST}:{port}/api", f"nmcl-{uuid.uuid4().hex[:8]}"
    environment = _environment(url)
    environment["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(folder / "ui")
    (folder / "ui").mkdir(exist_ok=True)
    if database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.for_prefect
    server = start_server(folder, port, env=environment)
    shown = database.shown if database else SQLITE
    service = Service(url, name, Running.of(server.pid), database=shown)
    _note(service)
    wait_for_server(server, url, folder)
    return service


def _start_worker(service: Service, ended: str | None, say: Say) -> Service:
    """Start a worker, after marking the orphaned runs.

    Args:
        ended: Name of the previous worker.
    """
    if n := mark_orphaned(service.url, POOL, ended):
        say(f"Interrupted runs, now Crashed: {n:,}. Resume a run with `prefect flow-run retry ID`.")
    say("Starting the worker ...")
    since = time.time()
    command = ("worker", "start", "--pool", POOL, "--type", "process", "--name", service.worker_name)
    log = home() / "worker.log"
    worker = spawn(command, log, env=_environment(service.url), cwd=working_folder())
    service = replace(service, worker=Running.of(worker.pid))
    _note(service)

    def is_ready() -> bool:
        """Return whether the worker has reported to the server, which may know an earlier worker of the same name."""
        workers = ask(f"{service.url}/work_pools/{POOL}/workers/filter", {})
        beats = [found["last_heartbeat_time"] for found in workers if found["name"] == service.worker_name]
        return any(datetime.fromisoformat(beat).timestamp() > since for beat in beats if beat)

    wait_until(is_ready, worker, "The Prefect worker", "was not ready", log)
    return service


def _environment(url: str) -> dict[str, str]:
    return os.environ | SETTINGS | {"PREFECT_HOME": str(home()), "PREFECT_API_URL": url}


def _register(service: Service, folders: Mapping[str, Path | None]) -> None:
    named = {name: str(folder.resolve()) if folder else "" for name, folder in folders.items()}
    done = subprocess.run(
        [*PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(_ROOT / "prefect.yaml")],
        env=_environment(service.url) | named,
        cwd=working_folder(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    (home() / "deploy.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise ServerError(f"The deployments of prefect.yaml were not registered: see {home() / 'deploy.log'}.")


def _schedule_sweep(service: Service, is_active: bool) -> None:
    """Run the deployment `sweep` on its schedule only where a folder is watched."""
    for deployment in ask(f"{service.url}/deployments/filter", {"flows": {"name": {"any_": ["sweep"]}}}):
        for schedule in deployment["schedules"]:
            url = f"{service.url}/deployments/{deployment['id']}/schedules/{schedule['id']}"
            ask(url, {"active": is_active}, "PATCH")


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with ExitStack() as stack:
        with writing(str(home() / "lock")):
            home().mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((home() / "lock").open("a"))
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _note(service: Service) -> None:
    write_whole(home() / "running.json", json.dumps(asdict(service), indent=1).encode())


def _noted() -> Service | None:
    path = home() / "running.json"
    try:
        with translated(str(path), "read"):
            content = path.read_bytes()
        return parse_record(content, Service)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ServerError(
            f"{path} is damaged or was not written by nmcl ({error}). If a server or a worker is still running, stop "
            "it by hand. Then delete the file."
        ) from error


def _stop_noted() -> bool:
    """Stop the runs, so that the worker can report them; then the worker, then the server."""
    service = _noted()
    if service is None:
        return False
    worker = service.worker.process() if service.worker else None
    server = service.server.process()
    if worker:
        _stop(worker.children())
        _stop([worker])
    if server:
        _stop([server])
    (home() / "running.json").unlink()
    return bool(worker or server)


def _stop(processes: list[psutil.Process]) -> None:
    """Terminate processes, and kill those that remain, with their children."""
    family = [*processes]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
            process.terminate()
    _, left = psutil.wait_procs(processes, STOPS_WITHIN_S)
    for process in [*left, *family]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, STOPS_WITHIN_S)
