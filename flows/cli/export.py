"""The command that exports feature sets to the file formats of other tools."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command, context_of
from nmcl.flows.cli.options import Features, KnownStore, SettingsOptions, names_in
from nmcl.pipeline.errors import UserError


@command(
    "nmcl export --out out --format parquet --to features.parquet",
    "nmcl export --out out --format mmrec --to MMRec/data/clips --missing zero",
    "nmcl export --out out --format torch --features visual,acoustic --sequences",
)
def export(
    out: KnownStore,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="One of parquet, npz, hf, croissant, torch, more, mmrec, cornac, elliot, mmgcn, microlens, mmsa, "
            "webdataset, csv: see docs/export.md.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File or folder to write. Default: `features` with the suffix of the format."),
    ] = None,
    features: Features = "",
    missing: Annotated[
        str | None,
        typer.Option(
            "--missing",
            metavar="HOW",
            help="Fill in missing vectors: completed (default if the store has them), zero or nan.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="WHOSE", help="Splits: of the run (default if there is one), or given by the manifest."
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", help="Run whose features and splits are exported. Default: the champion, for splits only."
        ),
    ] = None,
    sequences: Annotated[
        bool, typer.Option("--sequences", help="Write stored sequences instead of pooled vectors.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written.")] = False,
    *,
    options: SettingsOptions,
) -> None:
    """Export the features of all videos to a file format of other tools, with a recipe of every value.

    Rows are in catalogue order and include unlabelled videos. Ids, labels, splits, paths, hashes and a mask of observed
    vectors are exported with them.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.run import export as exports
    from nmcl.flows.stored_settings import of_store
    from nmcl.pipeline.export.registry import format_of
    from nmcl.pipeline.storage.store import Store

    request = exports.ExportRequest(
        format=form,
        to=to or Path(format_of(form).default),
        features=names_in(features),
        missing=_one_of("--missing", missing, ("completed", "zero", "nan")),
        split=_one_of("--split", split, ("given", "run")),
        run=run,
        sequences=sequences,
        force=force,
    )
    request.check()
    store = Store.open(out)
    plan = context_of(out, of_store(store, options.changes())).plan()
    with console.showing_progress():
        found = exports.read(plan, request, console.progress)
        written = None if dry_run else exports.write(found, request)
    summary.of_export(found, request, written)


def _one_of(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise UserError(f"{option} {value}: expected one of {', '.join(allowed)}.")
    return value
