"""The command `nmcl status`, and what it prints."""

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import FOUND_SOMETHING, command
from nmcl.flows.cli.options import Json, KnownStore

if TYPE_CHECKING:
    from nmcl.flows.run.status import Status


@command("nmcl status --out out", "nmcl status --out out --json", "nmcl status --out out --check || echo unfinished")
def status(
    out: KnownStore = "out",
    json: Json = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with code 6 if something is unfinished or visibly damaged.")
    ] = False,
) -> None:
    """Show what a store holds, what is unfinished, and the next command to type.

    Loads no network and reads no vector, so that it answers at once; `nmcl verify` checks every file. Settings and
    videos are compared with those of the stored artifacts, versions of code are not: after an upgrade, `nmcl run` may
    have more to do.
    """
    from nmcl.flows.run.status import status as status_of
    from nmcl.pipeline.storage.store import Store

    found = status_of(Store.open(out))
    if json:
        console.write(json_format.dumps(asdict(found), indent=1))
    else:
        _show(found)
    if check and (found.problems or found.next.is_unfinished):
        raise typer.Exit(FOUND_SOMETHING)


def _show(found: "Status") -> None:
    say = console.say
    rows: list[tuple[Any, ...]] = [
        (c.name, c.videos, c.labelled, c.parts, _THERE[c.is_there], c.folder) for c in found.crawls
    ]
    if rows:
        console.table(f"Crawls of {found.store}", ("crawl", "videos", "labelled", "parts", "there", "where"), rows)
    if found.stages:
        say("Stages: " + ", ".join(f"{s.stage} {_share(s.done, s.total)}" for s in found.stages))
    if found.features:
        rows = [
            (f.feature_set, f.modality, _share(f.parts, f.parts_total), f.videos, f.missing, f.failed)
            for f in found.features
        ]
        console.table("Vectors", ("feature set", "modality", "parts", "videos", "missing", "failed"), rows)
    if found.thumbnails:
        say(f"Thumbnails: of {found.thumbnails:,} videos")
    if found.outcomes:
        say("Files: " + ", ".join(f"{kind} {n:,}" for kind, n in found.outcomes.items()))
    rows = [
        (
            r.run.removeprefix("runs/"),
            r.test_videos,
            r.macro_f1,
            _interval(r.macro_f1_interval),
            r.micro_f1,
            _interval(r.micro_f1_interval),
        )
        for r in found.runs
    ]
    if rows:
        header = ("run", "videos", "macro", "95 %", "micro", "95 %")
        console.table(f"F1 on test videos, newest run first ({len(rows):,} of {found.n_runs:,})", header, rows)
        latest = next((r.run for r in found.runs if r.is_latest), None)
        say(f"Champion: {found.champion or 'none'}. Latest: {latest or 'none'}")
    total = console.size(sum(found.bytes.values()))
    kinds = sorted(found.bytes.items(), key=lambda item: -item[1])
    say(f"Disk: {total} (" + ", ".join(f"{kind} {console.size(n)}" for kind, n in kinds) + ")")
    for text in (*found.notes, *found.problems):
        console.note(text)
    say(f"Next: {found.next.command}")
    say(f"      {found.next.why}")


_THERE = {True: "yes", False: "no", None: "not reachable"}


def _share(done: int, total: int) -> str:
    return "done" if done == total else f"{done:,} of {total:,}"


def _interval(between: tuple[float, float] | None) -> str | None:
    return f"{between[0]:.2f}-{between[1]:.2f}" if between else None
