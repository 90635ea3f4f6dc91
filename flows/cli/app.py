"""The Typer application, and the decorator that adds commands to it."""

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from nmcl import __version__
from nmcl.flows import console
from nmcl.flows.cli.options import with_options

FOUND_SOMETHING = 6
"""Exit code of a checking command that found a problem."""

EXIT_CODES = {
    "0": "done",
    "1": "a bug in nmcl; with `--debug` the traceback is shown",
    "2": "an error that you can fix; the message explains it",
    "3": "`run`, `extract`: too many videos have neither picture nor sound; the rest is finished",
    "4": "`retrain`: drift above the limits of the settings `drift`",
    "5": "unfinished parts, because they killed every worker they were given to",
    "6": "`verify`, `doctor`: a problem was found; `status --check`: something is unfinished or damaged",
    "130, 143": "interrupted, terminated; the same command resumes",
}

app = typer.Typer(
    name="nmcl",
    help="Turn folders of crawled micro-videos into venue predictions.",
    epilog="\n\n".join(["**Exit codes**", *(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())]),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _be_quiet(wanted: bool) -> None:
    if wanted:
        os.environ[console.QUIET] = "1"


def _show_tracebacks(wanted: bool) -> None:
    if wanted:
        os.environ["NMCL_DEBUG"] = "1"


def command(*examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds a function to the application as a command of the same name.

    Args:
        examples: Command lines, shown at the end of its help.
    """
    epilog = "\n\n".join(["**Examples**", *(f"`{example}`" for example in examples)])
    return lambda function: app.command(epilog=epilog)(_with_global_options(with_options(function)))


def _with_global_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes `--quiet` and `--debug` after its name too; its help does not list them again."""

    @wraps(function)
    def called(quiet: bool, debug: bool, **values: Any) -> None:
        function(**values)

    hidden = {
        "quiet": Annotated[bool, typer.Option("--quiet", "-q", hidden=True, callback=_be_quiet)],
        "debug": Annotated[bool, typer.Option("--debug", hidden=True, callback=_show_tracebacks)],
    }
    own = inspect.signature(function).parameters
    added = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=a) for n, a in hidden.items()
    ]
    called.__signature__ = inspect.Signature([*own.values(), *added])  # type: ignore[attr-defined]
    called.__annotations__ = {name: p.annotation for name, p in own.items()} | hidden
    return called


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nmcl {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_show_tracebacks)
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Print only errors, and what --json, --csv or --toml asks for.",
            callback=_be_quiet,
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands."""


def context_of(out: str, settings: Any) -> Any:
    """Return the `nmcl.flows.run.stages.Context` of a command. The store is created if it does not exist."""
    from nmcl.flows.run.stages import Context
    from nmcl.pipeline.storage.store import Store

    return Context(Store.create(out), settings, console.progress, command=command_line())


def command_line() -> str:
    """Return the command line as the user typed it."""
    return " ".join(["nmcl", *sys.argv[1:]])
