"""The embedded Prefect server: private, with SQLite, started for one command and stopped with it.

Prefect reads its settings when it is imported, so this module imports it only after they are set. Callers of `embedded`
must import it only within the block.
"""

import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from nmcl.flows import console
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.os_errors import writing
from nmcl.pipeline.processes import QUIET_TRACKER, die_with_parent
from nmcl.pipeline.scratch import scratch

HOST = "127.0.0.1"
KEPT_LOGS = 5
LOG_BYTES = 20_000_000
"""Size of a log above which a new one is started."""
PREFECT = (sys.executable, "-m", "prefect")
READY_WITHIN_S = 180.0
WATCHED_EVERY_S = 0.5
"""Seconds between checks that the embedded server is alive."""
ASKED_EVERY_S = 5.0
"""Seconds between checks that an external server responds."""
PATIENCE_S = 60.0
"""Seconds for which an external server may fail to respond."""
ENDS_WITHIN_S = 3.0
"""Seconds within which a command must end after its server is lost; then it is killed."""
CONSOLE = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the console shows our own progress bars and messages
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",  # it logs every event that a server misses
}
QUIET = {
    **CONSOLE,
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    **QUIET_TRACKER,
    # The recorder writes a hundred events at a time: 11 instead of 54 ms of server time for a task run.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
}


class ServerError(UserError):
    """A server or a worker does not start, or a server is gone."""


HOME = "NMCL_HOME"
"""Environment variable with the folder of the server's database and logs."""


def default_home() -> Path:
    """Return the folder of the server's database: `NMCL_HOME`, `PREFECT_HOME`, or one in the user's state folder.

    Earlier versions used other folders. While a server that they started is noted there, that folder is returned.
    """
    if chosen := os.environ.get(HOME) or os.environ.get("PREFECT_HOME"):
        return Path(chosen)
    earlier = (
        Path(__file__).resolve().parents[2] / ".prefect",
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmcl" / "prefect",
    )
    for folder in earlier:
        if (folder / "service" / "running.json").exists():
            return folder
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "nmcl" / "prefect"


@contextmanager
def embedded() -> Iterator[str]:
    """Start a server, set its address in the environment and yield it. If an address is already set, it is used.

    Raises:
        ServerError: If it does not respond in time, or stops responding.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if url := os.environ.get("PREFECT_API_URL"):
        with _missed(url, "once the server is back, or without PREFECT_API_URL", partial(_unanswered, url)):
            yield url
        return
    with ExitStack() as stack:
        home = stack.enter_context(_own_home())
        port = free_port()
        url = f"http://{HOST}:{port}/api"
        # The log of a server that stops with the command is not needed.
        os.environ.update(PREFECT_HOME=str(home), PREFECT_API_URL=url, PREFECT_LOGGING_TO_API_ENABLED="false")
        stack.callback(os.environ.pop, "PREFECT_API_URL")
        environment = {k: v for k, v in os.environ.items() if k not in CONSOLE}
        with console.busy("start the Prefect server"):
            server = start(home, port, "--no-ui", env=environment, preexec_fn=die_with_parent)
            stack.callback(_stop, server)
            import_module("nmcl.flows.engine.flows")  # takes some seconds, in which the server starts
            wait_until_ready(server, url, home)
        with _missed(url, "with a new server", partial(_ended, server)):
            yield url


class _ServerLost(KeyboardInterrupt):
    """Ends the work of the main thread."""


def _raise_lost(*_: object) -> None:
    raise _ServerLost


@contextmanager
def _missed(url: str, way_out: str, is_lost: Callable[[threading.Event], bool]) -> Iterator[None]:
    """Raise ServerError as soon as Prefect's client (the only user of httpx) or a watching thread misses the server.

    Prefect's client itself retries silently for minutes.

    Args:
        is_lost: Waits until the server is gone, and returns True, or until the event, and returns False.
    """
    message = (
        f"The Prefect server at {url} no longer responds. Finished work is kept: "
        f"run the same command to resume {way_out}."
    )
    over, lost, turn = threading.Event(), threading.Event(), threading.Lock()
    main = threading.main_thread()

    def watch() -> None:
        if not is_lost(over):
            return
        with turn:
            if over.is_set():
                return
            lost.set()
            signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
        if not over.wait(ENDS_WITHIN_S):  # Prefect's client is still retrying
            print(f"error: {message}", file=sys.stderr, flush=True)
            os._exit(2)

    before = None
    if threading.current_thread() is main:
        before = signal.signal(signal.SIGUSR1, _raise_lost)
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except BaseException as error:
        import httpx

        if lost.is_set() or isinstance(error, httpx.TransportError):
            raise ServerError(message) from error
        raise
    finally:
        with turn:
            over.set()
        if before is not None:
            signal.signal(signal.SIGUSR1, before)


def _ended(server: subprocess.Popen[bytes], over: threading.Event) -> bool:
    while server.poll() is None:
        if over.wait(WATCHED_EVERY_S):
            return False
    return True


def _unanswered(url: str, over: threading.Event) -> bool:
    """Wait until an external server has not responded for too long (True) or the event is set (False)."""
    if not answers(url):
        return False  # perhaps only Prefect can connect to it; its client reports errors
    silent_since = None
    while not over.wait(ASKED_EVERY_S):
        if answers(url):
            if silent_since is not None:
                console.step(f"The Prefect server at {url} responds again.")
            silent_since = None
        elif silent_since is None:
            silent_since = time.monotonic()
            console.step(f"The Prefect server at {url} does not respond: waiting up to {PATIENCE_S:g} s.")
        elif time.monotonic() - silent_since > PATIENCE_S:
            return True
    return False


def answers(url: str, within_s: float = ASKED_EVERY_S) -> bool:
    """Return whether a server responds, even with an error."""
    try:
        urllib.request.urlopen(f"{url}/health", timeout=within_s).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return True


@contextmanager
def _own_home() -> Iterator[Path]:
    """Yield the default home, or a temporary one while another command's server uses it: SQLite has one writer."""
    home = default_home()
    with ExitStack() as stack:
        with writing(str(home / "in-use")):
            home.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((home / "in-use").open("a"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            home = stack.enter_context(scratch("prefect"))
        yield home


def free_port(preferred: int = 0) -> int:
    """Return the preferred port if nothing listens there, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as s, suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((HOST, port))
            return int(s.getsockname()[1])
    raise ServerError(f"No port of {HOST} is free.")


def start(home: Path, port: int, *options: str, **popen: Any) -> subprocess.Popen[bytes]:
    """Start a server that is configured by the environment; its log is in `home`: see `spawn`."""
    command = ("server", "start", "--host", HOST, "--port", str(port), *options)
    return spawn(command, home / "server.log", **popen)


def spawn(command: Sequence[str], log: Path, **popen: Any) -> subprocess.Popen[bytes]:
    """Start a command of Prefect with a new log file; the logs of earlier processes are kept: see `rotate`."""
    with writing(str(log)):
        rotate(log)
        file = log.open("ab")
    with file:
        return subprocess.Popen(
            [*PREFECT, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for this process, which then stops the other
            **popen,
        )


def rotate(log: Path, above_bytes: int = 0) -> None:
    """Move the content of a log to `NAME.1`, that to `NAME.2`, and so on; a process that is writing goes on in `log`.

    Args:
        above_bytes: A log that is not larger stays.
    """
    if not log.exists() or log.stat().st_size <= above_bytes:
        return
    for number in range(KEPT_LOGS - 1, 0, -1):
        with suppress(FileNotFoundError):
            log.with_name(f"{log.name}.{number}").replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)  # processes append to it


def rotate_large_logs(folder: Path) -> None:
    """Start new logs of the server and the worker in a folder if theirs are large; see `rotate`."""
    for name in ("server.log", "worker.log"):
        rotate(folder / name, LOG_BYTES)


def wait_until_ready(server: subprocess.Popen[bytes], url: str, home: Path) -> None:
    """Wait until the server responds. Raises ServerError if it ends or takes too long."""

    def is_healthy() -> bool:
        return bool(urllib.request.urlopen(f"{url}/health", timeout=2).status == 200)

    wait_until(is_healthy, server, "The Prefect server", "did not respond", home / "server.log")


def wait_until(
    is_ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, failing: str, log: Path
) -> None:
    """Wait until a process is ready. Raises ServerError, with `name` and `failing`, if it ends or takes too long."""
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ServerError(f"{name} ended with code {process.returncode}: see {log}.")
        with suppress(OSError, ServerError):
            if is_ready():
                return
        time.sleep(0.1)
    raise ServerError(f"{name} {failing} within {READY_WITHIN_S:g} s: see {log}.")


def _stop(server: subprocess.Popen[bytes]) -> None:
    with console.busy("stop the Prefect server"):
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
