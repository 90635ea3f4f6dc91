"""Commands for a permanent Prefect server."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import Crawl, KnownStore
from nmcl.pipeline.errors import CrawlError, UserError


def _set_home(folder: Path | None) -> None:
    if folder:
        os.environ["NMCL_HOME"] = str(folder.absolute())


Home = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="NMCL_HOME",
        help="Folder of the server's database and logs. Default: PREFECT_HOME, else `~/.local/state/nmcl/prefect`.",
        show_default=False,
        callback=_set_home,
    ),
]


@command(
    "nmcl up",
    "nmcl up --watch crawls --out out",
    "nmcl up --home server",
    "NMCL_DATABASE_URL=postgresql://user:password@host/prefect nmcl up",
)
def up(
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url",
            envvar="NMCL_DATABASE_URL",
            help="Address of a PostgreSQL database. Default: SQLite.",
            show_default=False,
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            "--watch",
            envvar="NMCL_WATCH",
            help="Folder to watch: each new subfolder is a crawl, and starts `retrain`.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", envvar="NMCL_OUT", help="Store for these crawls. Default: `out`.")
    ] = None,
    home: Home = None,
) -> None:
    """Start a permanent Prefect server and worker, and register the deployments of prefect.yaml.

    If both are already running, only the deployments are registered again. If only the worker has ended, only the
    worker is restarted. Earlier logs are kept as server.log.1 to .5 and worker.log.1 to .5.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.service import service

    if watch and not watch.is_dir():
        raise CrawlError(f"There is no folder {watch} to watch. Create it, and put crawls into it.")
    summary.of_service(service.up(database_url, watch, out, console.step), watch, out or Path("out"))


@command("nmcl down")
def down(home: Home = None) -> None:
    """Stop the server and worker of `nmcl up`, including runs in progress. Runs that are started again resume."""
    from nmcl.flows.service import service

    console.say("Stopped." if service.down() else "Nothing to stop.")


@command("nmcl announce new-crawl", "nmcl announce new-crawl --out out")
def announce(crawl: Crawl, out: KnownStore = "out", home: Home = None) -> None:
    """Announce a new crawl to the Prefect server, which then runs the deployment `retrain` on it."""
    from nmcl.flows.run.sources import require_videos
    from nmcl.flows.service import service
    from nmcl.pipeline.storage.store import Store

    require_videos(crawl)
    if not os.environ.get("PREFECT_API_URL"):
        running = service.running()
        if running is None:
            raise UserError("No Prefect server is running. Start one with `nmcl up`, or set PREFECT_API_URL to yours.")
        os.environ["PREFECT_API_URL"] = running.url
    from nmcl.flows.engine import sweep

    if not Store(out).exists("store.json"):
        console.note(f"There is no store {out} yet: `retrain` creates it, and trains its first model.")
    sweep.announce(crawl, out)
    console.say(f"Announced. See the run of `retrain` at {os.environ['PREFECT_API_URL'].removesuffix('/api')}")
