"""Finds orphaned flow runs: the server still shows them as running, but their processes have ended."""

import json
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

import psutil

from nmcl.flows.service.server import ServerError

BUSY = 503
"""HTTP status of a server that could not write to its database because of another writer."""
BUSY_FOR_S = 90.0
"""Seconds for which a busy server is asked again; it waits for its database for up to 60 s itself."""
ACTIVE = ("RUNNING", "PENDING", "CANCELLING")
CRASHED = {
    "type": "CRASHED",
    "name": "Crashed",
    "message": "Its process ended together with the server or the worker, so its end was not reported. Nothing is "
    "lost: `prefect flow-run retry ID` or a new run does what is missing.",
}


def ask(url: str, body: Any, method: str = "POST") -> Any:
    """Return the response of a server's API to a request; None without content.

    A busy server has changed nothing, so the request is repeated for a while.

    Raises:
        ServerError: If the server does not respond, or responds with an error.
    """
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    end = time.monotonic() + BUSY_FOR_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=BUSY_FOR_S) as answer:
                content = answer.read()
            return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            if error.code != BUSY or time.monotonic() > end:
                raise ServerError(f"The Prefect server responded to {url} with {error.code} {error.reason}.") from error
        except OSError as error:
            raise ServerError(f"The Prefect server did not respond to {url}: {error}.") from error
        time.sleep(0.5)


def mark_orphaned(api: str, pool: str, ended_worker: str | None) -> int:
    """Set the runs of a work pool and their subruns to Crashed if neither a worker nor their process is alive.

    Call it before any worker is started.

    Args:
        ended_worker: Name of a worker that is known to have ended, but that the server may still show as online.

    Returns:
        The number of runs, without subruns.
    """
    runs = _active(api, work_pools={"name": {"any_": [pool]}})
    if not runs:  # also if the pool does not exist yet
        return 0
    workers = ask(f"{api}/work_pools/{pool}/workers/filter", {})
    if any(worker["status"] == "ONLINE" and worker["name"] != ended_worker for worker in workers):
        return 0
    orphaned = sorted(runs - _alive())
    for run in [*orphaned, *_active(api, parent_flow_run_id={"any_": orphaned})]:
        ask(f"{api}/flow_runs/{run}/set_state", {"state": CRASHED, "force": True})
    return len(orphaned)


def _active(api: str, work_pools: Any = None, **of_runs: Any) -> set[str]:
    wanted = {"flow_runs": {"state": {"type": {"any_": ACTIVE}}, **of_runs}, "work_pools": work_pools}
    return {run["id"] for run in ask(f"{api}/flow_runs/filter", wanted)}


def _alive() -> set[str]:
    """Return the runs that a process of this machine is executing."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found.add(process.environ().get("PREFECT__FLOW_RUN_ID", ""))
    return found
