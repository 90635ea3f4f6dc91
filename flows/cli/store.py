"""Commands that list, check and change the contents of a store."""

import json as json_format
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import FOUND_SOMETHING, command
from nmcl.flows.cli.options import Json, KnownStore, SettingsOptions
from nmcl.pipeline.errors import UserError


@command("nmcl runs --out out", "nmcl runs --out out --json")
def runs(out: KnownStore = "out", json: Json = False) -> None:
    """List the runs of a store and the history of its champions."""
    from nmcl.flows.cli import summary
    from nmcl.pipeline.storage.store import Store

    summary.of_runs(Store.open(out), json)


@command("nmcl features", "nmcl features --json")
def features(json: Json = False) -> None:
    """List the extractors that feature sets can use, and whether their weights are on this machine."""
    from nmcl.flows.cli.extractor_summary import of_extractors

    of_extractors(json)


@command("nmcl promote nmcl_stacked-1b2c --out out", "nmcl promote latest --out out")
def promote(
    run: Annotated[str, typer.Argument(help="Name of a run, or a unique prefix of it.")],
    out: KnownStore = "out",
    json: Json = False,
) -> None:
    """Promote a run to champion."""
    from nmcl.pipeline.storage import runs
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with store.locked():
        before, found = runs.champion(store), runs.find_run(store, run)
        runs.promote(found, "promote", "by hand")
    old, new = before.folder if before else None, found.folder
    if json:
        _write_champion(new, old)
    elif old == new:
        console.say(f"{new} is already the champion.")
    else:
        console.say(f"Champion: {new} (previously {old or 'none'}).")


def _write_champion(champion: str, before: str | None) -> None:
    console.write(json_format.dumps({"champion": champion, "before": before}, indent=1))


@command("nmcl rollback --out out")
def rollback(out: KnownStore = "out", json: Json = False) -> None:
    """Return to the previous champion. Nothing is deleted."""
    from nmcl.pipeline.storage import runs
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with store.locked():
        entry = runs.rollback(store)
    if json:
        _write_champion(entry.run, entry.before)
    else:
        console.say(f"Champion: {entry.run}, rolled back from {entry.before}.")


@command(
    "nmcl errors --out out",
    "nmcl errors --out out --kind unreadable",
    "nmcl errors --out out --kind timeout --csv > timeouts.csv",
)
def errors(
    out: KnownStore = "out",
    kind: Annotated[str | None, typer.Option("--kind", help="List every video with this kind of failure.")] = None,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    *,
    options: SettingsOptions,
) -> None:
    """List the videos that failed, why, and what to do about it.

    Prints one row per kind of failure; with `--kind`, one row per video.
    """
    from nmcl.flows.cli import failed, summary
    from nmcl.flows.stored_settings import of_store
    from nmcl.pipeline.storage.store import Store

    if json and csv:
        raise UserError("--json and --csv cannot be combined. Use one of them.")
    if kind is not None:
        failed.require_kind(kind)
    store = Store.open(out)
    videos = list(failed.failed_videos(store, of_store(store, options.changes()), kind))
    rows = videos if kind else failed.by_kind(videos)
    kinds = failed.FailedVideo if kind else failed.FailedKind
    summary.of_rows(rows, kinds, "json" if json else "csv" if csv else "table", f"Failures of {store.url}")


@command("nmcl verify --out out", "nmcl verify --out out --json", "nmcl verify --out out --repair")
def verify(
    out: KnownStore = "out",
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove damaged files, so that the next command recreates them.")
    ] = False,
    sources: Annotated[
        int, typer.Option("--sources", min=0, help="Source files of each crawl to read again and compare.")
    ] = 32,
    json: Json = False,
) -> None:
    """Check every part of a store against its recipe, digest and catalogue, and some of the source files.

    Exits with code 6 if there are problems that `--repair` has not removed, otherwise with 0.
    """
    from nmcl.flows.cli import summary
    from nmcl.pipeline.stages import verify as checks

    store = checks.open_to_verify(out)
    with console.showing_progress():
        findings = checks.verify(store, sources, progress=console.progress)
        if repair and findings.problems:
            with store.locked():
                checks.repair(store, findings)
    summary.of_verification(store, findings, repair, json)
    left = [problem for problem in findings.problems if not (repair and problem.removes)]
    if left:
        raise typer.Exit(FOUND_SOMETHING)
