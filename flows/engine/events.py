"""Events that start a flow: a crawl that has landed starts `retrain` (see prefect.yaml).

Import this only with `PREFECT_API_URL` set: Prefect reads it on import.
"""

from prefect import get_client
from prefect.events import Event, Resource

from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.store import Store

LANDED = "nmcl.crawl.landed"


def announce(crawl: str, out: str) -> None:
    """Emit the event that a crawl has landed, for the given store. Returns when the server has received it."""
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
