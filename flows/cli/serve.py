"""Commands for a Prefect server that keeps running."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import Crawl, Out
from nmcl.pipeline.errors import CrawlError, UserError


@command(
    "nmcl up",
    "nmcl up --watch crawls --out out",
    "NMCL_DATABASE_URL=postgresql://user:password@host/prefect nmcl up",
)
def up(
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url", envvar="NMCL_DATABASE_URL", help="Of PostgreSQL; SQLite without it.", show_default=False
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            "--watch",
            envvar="NMCL_WATCH",
            help="Each folder that lands in this one is a crawl, and starts `retrain`.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", envvar="NMCL_OUT", help="Store of these crawls; `out` if not given.")
    ] = None,
) -> None:
    """Start a Prefect server and a worker that stay, and register the deployments of prefect.yaml.

    If they are running already they are left alone, and the deployments are registered again. A worker that ended is
    restarted without its server. Logs of the previous processes are kept as server.log.1 and worker.log.1.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.service import service

    if watch and not watch.is_dir():
        raise CrawlError(f"There is no folder {watch} to watch. Make it, and let crawls land in it.")
    summary.of_service(service.up(database_url, watch, out, console.step), watch, out or Path("out"))


@command("nmcl down")
def down() -> None:
    """Stop what `nmcl up` started, runs in progress included: started again, they go on from what is finished."""
    from nmcl.flows.service import service

    console.say("Stopped." if service.down() else "Nothing runs that `nmcl up` started.")


@command("nmcl announce new-crawl", "nmcl announce new-crawl --out out")
def announce(crawl: Crawl, out: Out = "out") -> None:
    """Announce a new crawl to the Prefect server, which starts the deployment `retrain` on it."""
    from nmcl.flows.run.sources import require_videos
    from nmcl.flows.service import service
    from nmcl.pipeline.storage.store import Store

    require_videos(crawl)
    if not os.environ.get("PREFECT_API_URL"):
        running = service.running()
        if running is None:
            raise UserError("No Prefect server runs. Start one with `nmcl up`, or name yours in PREFECT_API_URL.")
        os.environ["PREFECT_API_URL"] = running.url
    from nmcl.flows.engine import sweep

    if not Store(out).exists("store.json"):
        console.note(f"There is no store {out} yet: `retrain` makes it, and trains its first model.")
    sweep.announce(crawl, out)
    console.say(f"Announced: {os.environ['PREFECT_API_URL'].removesuffix('/api')} shows the run of `retrain`.")
