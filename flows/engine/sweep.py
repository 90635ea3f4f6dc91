"""Starts `retrain` once for each new crawl: by an event for announced crawls, by a sweep for those in a watched folder.

The event's trigger is in prefect.yaml. The runs of `retrain` on the server record which crawls were started. So an
announced crawl is not started again, and a crawl whose run failed is not started until it changes. Import this only
with `PREFECT_API_URL` set: Prefect reads it on import.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_client, runtime
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.events import Event, Resource
from prefect.logging import get_run_logger
from pydantic import Field

from nmcl.flows.engine.run_name import run_name
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.crawl.watch import WatchedCrawl, watched_crawls
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.store import Store

STORE = "out"
RETRAIN = "retrain/local"
LANDED = "nmcl.crawl.landed"


_started_something: set[str] = set()
"""Ids of the flow runs of this process that started a run."""


def _leave_no_trace(flow: Any, flow_run: FlowRun, state: Any) -> None:
    """Delete a scheduled run that started nothing: there are 144 a day."""
    if flow_run.auto_scheduled and str(flow_run.id) not in _started_something:
        with get_client(sync_client=True) as client:
            client.delete_flow_run(flow_run.id)


@flow(name="sweep", flow_run_name=run_name, validate_parameters=True, on_completion=[_leave_no_trace])
def sweep(folder: str = "", out: str = "", settled_s: Annotated[float, Field(ge=0)] = 300.0) -> dict[str, str]:
    """Start `retrain` for each complete crawl under a folder that was not started since its last change.

    A scheduled run that starts nothing is deleted at its end.

    Args:
        folder: Each of its subfolders is a crawl; if empty, nothing is done.
        out: Folder of the store that ingests them; default: `out`.
        settled_s: A crawl is complete if nothing in it has changed for this many seconds.

    Returns:
        `started`, `started before` or `still changing`, by the name of the crawl.
    """
    found = {}
    for crawl in watched_crawls(Path(folder)) if folder else []:
        found[crawl.folder.name] = _start(crawl, Path(out or STORE).resolve(), settled_s)
        get_run_logger().info("%s: %s", crawl.folder, found[crawl.folder.name])
    if "started" in found.values():
        _started_something.add(str(runtime.flow_run.id))
    return found


def _start(crawl: WatchedCrawl, out: Path, settled_s: float) -> str:
    if crawl.quiet_s < settled_s:
        return "still changing"
    with get_client(sync_client=True) as client:
        if _was_started(client, crawl, out):
            return "started before"
    run_deployment(
        RETRAIN,
        parameters={"crawl": str(crawl.folder), "out": str(out)},
        idempotency_key=f"{digest([str(crawl.folder), str(out)])}-{crawl.changed:.3f}",  # sweeps may overlap
        timeout=0,
        as_subflow=False,
    )
    return "started"


def _was_started(client: SyncPrefectClient, crawl: WatchedCrawl, out: Path) -> bool:
    """Return whether `retrain` was started on this crawl since its last change."""
    deployment = client.read_deployment_by_name(RETRAIN)
    since = datetime.fromtimestamp(crawl.changed, UTC)
    wanted = {"deployment_id": {"any_": [deployment.id]}, "expected_start_time": {"after_": since}}
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(wanted), sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200
    )
    taken = {(run.parameters.get("crawl"), run.parameters.get("out") or STORE) for run in runs}
    return any(name and (Path(name).resolve(), Path(to).resolve()) == (crawl.folder, out) for name, to in taken)


def announce(crawl: str, out: str) -> None:
    """Emit the event of a new crawl for the given store. Returns when the server has received it."""
    source, store = crawl_source(crawl), Store(out)
    event = Event(
        event=LANDED,
        resource=Resource(
            {"prefect.resource.id": f"nmcl.crawl.{digest(source.address)}", "prefect.resource.name": source.name}
        ),
        payload={"crawl": source.address, "out": store.url},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
