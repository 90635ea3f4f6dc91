"""Commands that show and free the space of a store, and that follow a crawl that was moved."""

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import Json, KnownStore

if TYPE_CHECKING:
    from nmcl.flows.run.references import References, Unused
    from nmcl.pipeline.storage.store import Store
    from nmcl.pipeline.storage.usage import Stored

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]


@dataclass(frozen=True)
class _Used:
    """A row of `nmcl du`."""

    folder: str
    kind: str
    feature_set: str | None
    address: str | None
    files: int
    bytes: int
    runs: tuple[str, ...]
    """Runs that were made from it."""
    in_use: bool | None
    """None if that is not known, as what a run was made from is damaged or missing."""
    unused_bytes: int | None
    """What `nmcl gc` would free."""


@command("nmcl du --out out", "nmcl du --out out --json")
def du(out: KnownStore = "out", json: Json = False) -> None:
    """Show what takes space in a store: every artifact, its size, and the runs that were made from it.

    An artifact that no run was made from is in use if the present settings would use it; `nmcl gc` removes the others.
    """
    from nmcl.flows.run.references import unused
    from nmcl.pipeline.errors import UserError
    from nmcl.pipeline.storage.store import Store
    from nmcl.pipeline.storage.usage import stored

    store = Store.open(out)
    found, would_go = None, None
    try:
        found = _references(store)
        would_go = unused(store, found)
    except UserError as error:
        console.note(str(error))
    rows = [_used(one, found, would_go) for one in stored(store)]
    if json:
        total = {"files": sum(row.files for row in rows), "bytes": sum(row.bytes for row in rows)}
        console.write(
            json_format.dumps({"store": store.url, **total, "artifacts": [asdict(r) for r in rows]}, indent=1)
        )
        return
    _of_usage(store, rows)


def _references(store: "Store", without: Sequence[str] = ()) -> "References":
    """Return the references of a store, with those of its present settings and of a retraining."""
    from nmcl.flows.retrain.new_data import add_new, select_crawls
    from nmcl.flows.run.plan import Plan
    from nmcl.flows.run.references import references
    from nmcl.flows.stored_settings import of_store
    from nmcl.pipeline.storage.catalogue import load_catalogue, part_of
    from nmcl.pipeline.storage.runs import champion

    catalogue = load_catalogue(store)
    plan = Plan(store, catalogue, of_store(store, {})) if catalogue.crawls else None
    found = references(store, plan, without)
    best = champion(store)
    if best is not None and best.catalogue.crawls:  # of crawls that overlap, a retraining makes parts of its own
        crawls = select_crawls(store, None)
        catalogue, _ = add_new(store, best.catalogue, crawls, lambda _, videos: part_of(videos))
        found.add_parts([part for _, part in catalogue.parts()])
    return found


def _used(one: "Stored", found: "References | None", would_go: "Sequence[Unused] | None") -> _Used:
    name, _, address = one.folder.partition("/")[2].rpartition("-") if one.is_artifact else ("", "", "")
    freed = None if would_go is None else sum(row.n_bytes for row in would_go if row.folder == one.folder)
    is_whole = would_go is not None and any(row.is_whole for row in would_go if row.folder == one.folder)
    runs = [by for by in found.to.get(one.folder, ()) if by.startswith("runs/")] if found else []
    has_set = one.kind in ("features", "states") and name != "completion"
    return _Used(
        folder=one.folder,
        kind=one.kind,
        feature_set=name if has_set else None,
        address=(address or one.folder.partition("/")[2]) if one.is_artifact else None,
        files=len(one.sizes),
        bytes=one.n_bytes,
        runs=tuple(runs),
        in_use=None if would_go is None else not is_whole,
        unused_bytes=freed,
    )


def _of_usage(store: "Store", rows: Sequence[_Used]) -> None:
    def state(row: _Used) -> str | None:
        if row.in_use is None:
            return None
        if not row.in_use:
            return "unused"
        return f"in use, {console.size(row.unused_bytes)} unused" if row.unused_bytes else "in use"

    cells = [
        (row.folder or "(the store itself)", row.files, console.size(row.bytes), state(row), len(row.runs) or None)
        for row in sorted(rows, key=lambda row: -row.bytes)
    ]
    console.table(f"Disk use of {store.url}", ("artifact", "files", "size", "state", "runs"), cells)
    console.say(f"Total: {console.size(sum(row.bytes for row in rows))} in {sum(row.files for row in rows):,} files")
    if freed := sum(row.unused_bytes or 0 for row in rows):
        console.say(f"Nothing refers to {console.size(freed)}. `nmcl gc --out {store.url} --dry-run` lists it.")


@command("nmcl gc --out out --dry-run", "nmcl gc --out out", "nmcl gc --out out --run logistic-1b2c")
def gc(
    out: KnownStore = "out",
    run: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN", help="Also remove this run, which was never champion; repeatable."),
    ] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Remove what nothing in a store refers to any more.

    Kept are all finished runs, the history of champions, what these runs were made from, the thumbnails that show most
    of their videos, the catalogues and their parts, the recorded failures, and what the present settings use or would
    use next. Removed are vectors, states and thumbnails of settings that no finished run was made with, unfinished runs
    of such settings, and parts of videos that are in no catalogue any more. With `--run`, a finished run that was never
    champion is removed too, with what only it needs.
    """
    from nmcl.flows.run.references import remove, require_removable, unused
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    if dry_run:
        rows = unused(store, _references(store, require_removable(store, run or ())))
    else:
        with store.locked():
            rows = unused(store, _references(store, require_removable(store, run or ())))
            remove(store, rows)
    n_files, n_bytes = sum(len(row.names) for row in rows), sum(row.n_bytes for row in rows)
    if json:
        listed = [{"folder": r.folder, "whole": r.is_whole, "bytes": r.n_bytes, "files": r.names} for r in rows]
        tree: dict[str, Any] = {"store": store.url, "removed": not dry_run, "files": n_files, "bytes": n_bytes}
        console.write(json_format.dumps({**tree, "artifacts": listed}, indent=1))
        return
    if not rows:
        console.say(f"Nothing to remove: everything in {store.url} is in use.")
        return
    cells = [
        (row.folder, "all" if row.is_whole else "parts in no catalogue", len(row.names), console.size(row.n_bytes))
        for row in rows
    ]
    title = "Nothing refers to these files" if dry_run else "Removed, as nothing referred to it"
    console.table(title, ("artifact", "what", "files", "size"), cells)
    if dry_run:
        for row in rows:
            for name in row.names:
                console.say(name)
    console.say(f"{'Would be removed' if dry_run else 'Removed'}: {n_files:,} files, {console.size(n_bytes)}")


@command("nmcl relocate /old/crawl /new/crawl --out out", "nmcl relocate monday s3://bucket/monday --out out --dry-run")
def relocate(
    old: Annotated[
        str, typer.Argument(help="Folder or URL of the crawl when it was ingested, or its name.", show_default=False)
    ],
    new: Annotated[str, typer.Argument(help="Folder or URL where the crawl is now.", show_default=False)],
    out: KnownStore = "out",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Tell a store that a crawl was moved. No vector, model or address changes.

    All files are compared by size and some by content before anything is written.
    """
    from nmcl.pipeline.stages import relocate as relocation
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with console.showing_progress():
        if dry_run:
            found = relocation.find_relocation(store, old, new, progress=console.progress)
        else:
            with store.locked():
                found = relocation.find_relocation(store, old, new, progress=console.progress)
                relocation.relocate(store, found)
    if json:
        console.write(json_format.dumps({"store": store.url, "changed": not dry_run, **asdict(found)}, indent=1))
        return
    console.say(f"{found.n_files:,} files have the same size, {found.n_read:,} of them were read and are the same.")
    for name in found.catalogues if dry_run else ():
        console.say(f"Would change: {name}")
    console.say(f"{'Would be relocated' if dry_run else 'Relocated'}: {found.old} -> {found.new}")
