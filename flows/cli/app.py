"""The Typer application, and the decorator that adds commands to it."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from nmcl import __version__
from nmcl.flows import console
from nmcl.flows.cli.options import with_options

FOUND_SOMETHING = 6
"""Exit code of a checking command that found a problem."""

app = typer.Typer(
    name="nmcl",
    help="Turn folders of crawled micro-videos into venue predictions.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def command(*examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a function to the application as a command of the same name.

    Args:
        examples: Command lines, shown at the end of its help.
    """
    epilog = "\n\n".join(["**Examples**", *(f"`{example}`" for example in examples)])
    return lambda function: app.command(epilog=epilog)(with_options(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nmcl {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["NMCL_DEBUG"] = "1"


def context_of(out: str, settings: Any) -> Any:
    """Return the `nmcl.flows.run.stages.Context` of a command. The store is created if it does not exist."""
    from nmcl.flows.run.stages import Context
    from nmcl.pipeline.storage.store import Store

    return Context(Store.create(out), settings, console.progress, command=command_line())


def command_line() -> str:
    """Return the command line as the user typed it."""
    return " ".join(["nmcl", *sys.argv[1:]])
