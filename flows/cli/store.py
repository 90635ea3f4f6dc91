"""Commands that list, check and change the contents of a store."""

from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import FOUND_SOMETHING, command
from nmcl.flows.cli.options import Json, Out
from nmcl.pipeline.errors import UserError


@command("nmcl runs --out out", "nmcl runs --out out --json")
def runs(out: Out = "out", json: Json = False) -> None:
    """List the runs of a store and the history of its champions."""
    from nmcl.flows.cli import summary
    from nmcl.pipeline.storage.store import Store

    summary.of_runs(Store.open(out), json)


@command("nmcl promote nmcl_stacked-1b2c --out out", "nmcl promote latest --out out")
def promote(
    run: Annotated[str, typer.Argument(help="A run, or the beginning of its name that no other has.")],
    out: Out = "out",
) -> None:
    """Make a run the champion by hand."""
    from nmcl.pipeline.storage import runs
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with store.locked():
        before, found = runs.champion(store), runs.find_run(store, run)
        runs.promote(found, "promote", "by hand")
    old, new = before.folder if before else "none", found.folder
    console.say(f"{new} is the champion already." if old == new else f"Champion: {new}, before it {old}.")


@command("nmcl rollback --out out")
def rollback(out: Out = "out") -> None:
    """Return to the champion before the present one. Nothing is deleted."""
    from nmcl.pipeline.storage import runs
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with store.locked():
        entry = runs.rollback(store)
    console.say(f"Champion: {entry.run}, rolled back from {entry.before}.")


@command(
    "nmcl errors --out out",
    "nmcl errors --out out --kind unreadable",
    "nmcl errors --out out --kind timeout --csv > timeouts.csv",
)
def errors(
    out: Out = "out",
    kind: Annotated[str | None, typer.Option("--kind", help="List every video that failed in this way.")] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets.")] = False,
) -> None:
    """List which videos failed, why, and what to do about it.

    One row for each kind of failure; with `--kind`, one for each video.
    """
    from nmcl.flows.cli import failed, summary
    from nmcl.flows.stored_settings import of_store
    from nmcl.pipeline.storage.store import Store

    if json and csv:
        raise UserError("--json and --csv exclude each other. Choose one of them.")
    store = Store.open(out)
    videos = list(failed.failed_videos(store, of_store(store, {}), kind))
    rows = videos if kind else failed.by_kind(videos)
    kinds = failed.FailedVideo if kind else failed.FailedKind
    summary.of_rows(rows, kinds, "json" if json else "csv" if csv else "table", f"Failures of {store.url}")


@command("nmcl verify --out out", "nmcl verify --out out --json", "nmcl verify --out out --repair")
def verify(
    out: Out = "out",
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is wrong, so that the next command makes it again.")
    ] = False,
    sources: Annotated[
        int, typer.Option("--sources", min=0, help="Files of each crawl that are read again and compared.")
    ] = 32,
    json: Json = False,
) -> None:
    """Check every part of a store against its recipe, its digest and the catalogue, and some of the source files.

    Ends with exit code 6 where something is wrong, and with 0 where `--repair` has removed all of it.
    """
    from nmcl.flows.cli import summary
    from nmcl.pipeline.stages import verify as checks
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with console.showing_progress():
        findings = checks.verify(store, sources, progress=console.progress)
        if repair and findings.problems:
            with store.locked():
                checks.repair(store, findings)
    summary.of_verification(store, findings, repair, json)
    left = [problem for problem in findings.problems if not (repair and problem.removes)]
    if left:
        raise typer.Exit(FOUND_SOMETHING)
