"""What happens outside and starts a flow: a crawl that has landed starts `retrain` (see prefect.yaml).

Import this only with `PREFECT_API_URL` set: Prefect reads it on import.
"""

from pathlib import Path

from prefect import get_client
from prefect.events import Event, Resource

from pipeline.artifacts import digest

LANDED = "nmcl.crawl.landed"


def announce(crawl: Path, out: Path) -> None:
    """Tell the server that a crawl has landed, and which store shall take it up. Returns when the server has it."""
    crawl, out = crawl.resolve(), out.resolve()
    event = Event(
        event=LANDED,
        resource=Resource(
            {"prefect.resource.id": f"nmcl.crawl.{digest(str(crawl))}", "prefect.resource.name": crawl.name}
        ),
        payload={"crawl": str(crawl), "out": str(out)},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
