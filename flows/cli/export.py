"""The command that writes feature sets in the formats that other programs load."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command, context_of
from nmcl.flows.cli.options import Out
from nmcl.pipeline.errors import UserError


@command(
    "nmcl export --out out --format parquet --to features.parquet",
    "nmcl export --out out --format mmrec --to MMRec/data/clips --missing zero",
    "nmcl export --out out --format torch --features visual,acoustic --sequences",
)
def export(
    out: Out,
    form: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="See docs/export.md, for example parquet.", show_default=False),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="File or folder to write; `features` with the format's suffix.")
    ] = None,
    features: Annotated[str, typer.Option("--features", help="Feature sets with commas between; all.")] = "",
    missing: Annotated[
        str | None,
        typer.Option("--missing", metavar="HOW", help="completed (where the store has such vectors), zero or nan."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="WHOSE", help="run (where there is one), or given by the manifest.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="A run, for its features and splits; splits only: the champion's.")
    ] = None,
    sequences: Annotated[
        bool, typer.Option("--sequences", help="Write what vectors were pooled from, where it was kept.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")] = False,
) -> None:
    """Write the vectors of every video as files that other programs load, with a recipe of every value.

    Rows are in the order of the catalogue, unlabelled videos included; ids, labels, splits, paths, hashes and a mask of
    the observed vectors go with them.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.run import export as exports
    from nmcl.flows.stored_settings import of_store
    from nmcl.pipeline.export.registry import format_of
    from nmcl.pipeline.storage.store import Store

    wish = exports.Wanted(
        format=form,
        to=to or Path(format_of(form).default),
        features=tuple(name.strip() for name in features.split(",") if name.strip()),
        missing=_one_of("--missing", missing, ("completed", "zero", "nan")),
        split=_one_of("--split", split, ("given", "run")),
        run=run,
        sequences=sequences,
        force=force,
    )
    wish.check()
    store = Store.open(out)
    plan = context_of(out, of_store(store, {})).plan()
    with console.showing_progress():
        found = exports.read(plan, wish, console.progress)
        written = None if dry_run else exports.write(found, wish)
    summary.of_export(found, wish, written)


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise UserError(f"{option} {value}: expected one of {', '.join(allowed)}.")
    return value
