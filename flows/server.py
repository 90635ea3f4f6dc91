"""The embedded Prefect server: private, on SQLite, started for one command and stopped with it.

Prefect reads its settings when it is imported, so this module imports it only once they are made, and whoever uses
`embedded` does so only within the block.
"""

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.processes import die_with_parent

HOST = "127.0.0.1"
READY_WITHIN_S = 180.0
CONSOLE = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # our own bars and messages speak on the console
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # it tells of every event that a server misses
}
QUIET = {
    **CONSOLE,
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",  # told when a worker process was killed
    # The recorder writes a hundred events at a time: 11 instead of 54 ms of server time for a task run.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
}


class ServerError(UserError):
    """A server or a worker does not start, or a server is gone."""


def default_home() -> Path:
    """Where the server keeps its database: `PREFECT_HOME`, else `.prefect` beside the code, else the user's cache."""
    if os.environ.get("PREFECT_HOME"):
        return Path(os.environ["PREFECT_HOME"])
    repository = Path(__file__).resolve().parent.parent
    if (repository / "pyproject.toml").exists() and os.access(repository, os.W_OK):
        return repository / ".prefect"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nmcl" / "prefect"


@contextmanager
def embedded() -> Iterator[str]:
    """A server's address, in the environment of this process; a server named there already is used instead.

    Raises:
        ServerError: it does not answer in time, or does not answer any more.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if url := os.environ.get("PREFECT_API_URL"):
        with _missed(url, "when it is back, or without PREFECT_API_URL"):
            yield url
        return
    with ExitStack() as stack:
        home = stack.enter_context(_own_home())
        port = free_port()
        url = f"http://{HOST}:{port}/api"
        # Nobody reads the log of a server that stops with the command.
        os.environ.update(PREFECT_HOME=str(home), PREFECT_API_URL=url, PREFECT_LOGGING_TO_API_ENABLED="false")
        stack.callback(os.environ.pop, "PREFECT_API_URL")
        environment = {k: v for k, v in os.environ.items() if k not in CONSOLE}
        server = start(home, port, "--no-ui", env=environment, preexec_fn=die_with_parent)
        stack.callback(_stop, server)
        import_module("flows.flows")  # some seconds, in which the server starts
        wait_until_ready(server, url, home)
        with _missed(url, "with a new one"):
            yield url


@contextmanager
def _missed(url: str, way_out: str) -> Iterator[None]:
    """Say that the server is gone, where Prefect's client, the only user of httpx, finds it so."""
    try:
        yield
    except Exception as error:
        import httpx

        if isinstance(error, httpx.TransportError):
            raise ServerError(
                f"The Prefect server at {url} does not answer ({error}). What was finished is kept: "
                f"the same command goes on from there {way_out}."
            ) from error
        raise


@contextmanager
def _own_home() -> Iterator[Path]:
    """The default home; a temporary one while another command's server uses that, as SQLite has one writer."""
    home = default_home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "in-use").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(prefix="nmcl-prefect-", ignore_cleanup_errors=True) as temporary:
                yield Path(temporary)
            return
        yield home


def free_port(preferred: int = 0) -> int:
    """The preferred port if nobody listens there, else any."""
    for port in (preferred, 0):
        with socket.socket() as s, suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((HOST, port))
            return int(s.getsockname()[1])
    raise ServerError(f"No port of {HOST} is free.")


def start(home: Path, port: int, *options: str, **popen: Any) -> subprocess.Popen[bytes]:
    """A server whose address, database and settings are in the environment; its log is in `home`."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port), *options]
    with (home / "server.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process; it then stops the server
            **popen,
        )


def wait_until_ready(server: subprocess.Popen[bytes], url: str, home: Path) -> None:
    """Return when the server answers. Raises ServerError when it ends or takes too long."""
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        if server.poll() is not None:
            raise ServerError(f"The Prefect server ended with code {server.returncode}: see {home / 'server.log'}.")
        with suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"{url}/health", timeout=2).status == 200:
                return
        time.sleep(0.1)
    raise ServerError(f"The Prefect server did not answer within {READY_WITHIN_S:g} s: see {home / 'server.log'}.")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
