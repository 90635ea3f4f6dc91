"""Generator of the command-line reference as Markdown: `python -m nmcl.flows.cli.reference > docs/cli.md`."""

import re
from collections.abc import Iterable
from typing import Any

import typer.main

from nmcl.flows.cli.app import EXIT_CODES
from nmcl.flows.cli.main import app

INTRODUCTION = """\
# Command line

Generated from the program by `python -m nmcl.flows.cli.reference > docs/cli.md`. Do not edit.

Every command also prints its own section: `nmcl COMMAND --help`. Settings for `--set` and `--config` are in
[settings.md](settings.md). `--quiet` and `--debug` may also follow the command.
"""


def reference() -> str:
    """Return the reference of all commands: usage, description, arguments, options with defaults, examples."""
    group: Any = typer.main.get_command(app)
    index = [f"* [`nmcl {name}`](#nmcl-{name}): {_first_line(command)}" for name, command in group.commands.items()]
    sections = [_section(f"nmcl {name}", command) for name, command in group.commands.items()]
    codes = ["| exit code | meaning |", "|---|---|", *(f"| {code} | {text} |" for code, text in EXIT_CODES.items()), ""]
    options = ["## Global options", "", *_options(group.params), "## Exit codes", "", *codes]
    lines = [INTRODUCTION, *index, "", *options, *sections]
    return "\n".join(lines).rstrip()


def _first_line(command: Any) -> str:
    line: str = command.help.splitlines()[0]
    return line


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if _is_argument(p)]
    usage = " ".join([name, "[OPTIONS]", *(a.name.upper() if a.required else f"[{a.name.upper()}]" for a in arguments)])
    lines = [f"## {name}", "", f"`{usage}`", "", command.help.strip(), ""]
    if len(table := _options(command.params)) > 3:
        lines += table
    examples = re.findall(r"^`(.*)`$", command.epilog or "", re.MULTILINE)
    return "\n".join([*lines, "```sh", *examples, "```", ""])


def _options(parameters: Iterable[Any]) -> list[str]:
    """Return a table with one row for each argument or option."""
    return [
        "| option | default | meaning |",
        "|---|---|---|",
        *(_row(p) for p in parameters if not getattr(p, "hidden", False)),
        "",
    ]


def _row(parameter: Any) -> str:
    is_flag = getattr(parameter, "is_flag", False)
    name = parameter.name.upper()
    if not _is_argument(parameter):
        name = ", ".join(parameter.opts) + ("" if is_flag else f" {parameter.metavar or name}")
    default = "required" if parameter.required else f"`{parameter.default}`" if parameter.default else ""
    variable = f" Environment variable: `{parameter.envvar}`." if parameter.envvar else ""
    text = f"{parameter.help}{variable}".replace("|", r"\|")
    return f"| `{name}` | {default} | {text} |"


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


if __name__ == "__main__":
    print(reference())
