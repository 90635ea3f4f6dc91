"""Commands that watch a machine and a store."""

from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import FOUND_SOMETHING, command
from nmcl.flows.cli.options import Json, KnownStore


@command("nmcl doctor", "nmcl doctor --json")
def doctor(json: Json = False) -> None:
    """Check whether nmcl can run on this machine, and say what to do where it cannot.

    Decodes a tiny clip of each codec, and looks at weights, processor, GPU, memory, disks, ports and versions. Exits
    with code 6 if there is a problem, with 0 if there are only warnings. Nothing is downloaded.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.run import doctor as machine
    from nmcl.pipeline.text import counted

    rows = list(machine.checks(Path.cwd()))
    problems, warnings = ([row for row in rows if row.state == state] for state in ("problem", "warning"))
    if json:
        summary.of_rows(rows, machine.Check, "json", "")
    else:
        console.table(
            "This machine", ("check", "state", "found"), [(f"{r.area}: {r.name}", r.state, r.found) for r in rows]
        )
        for row in (*problems, *warnings):
            console.say(f"{row.state}: {row.name}: {row.found}. {row.what_to_do}")
        console.say(f"{counted(len(problems), 'problem')}, {counted(len(warnings), 'warning')}.")
    if problems:
        raise typer.Exit(FOUND_SOMETHING)


@command("nmcl metrics --out out", "nmcl metrics --out out --to /var/lib/node_exporter/nmcl.prom")
def metrics(
    out: KnownStore = "out",
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write, replaced as a whole. Default: print.", metavar="FILE")
    ] = None,
) -> None:
    """Write the figures of a store in Prometheus' text format, for a node exporter's text-file collector.

    Videos by outcome and by split, unfinished parts, seconds by stage, the champion's scores, and drift.
    """
    from nmcl.flows.run.metrics import prometheus_text
    from nmcl.flows.stored_settings import unchecked
    from nmcl.pipeline.storage.files import write_whole
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    text = prometheus_text(store, unchecked(store, {}))
    if to is None:
        console.write(text.removesuffix("\n"))
    else:
        write_whole(to, text.encode())
