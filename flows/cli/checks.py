"""The command that checks this machine."""

from pathlib import Path

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import FOUND_SOMETHING, command
from nmcl.flows.cli.options import Json


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
