"""The command that lists settings."""

from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import Json, SettingsOptions
from nmcl.pipeline.errors import UserError


@command(
    "nmcl settings",
    "nmcl settings split --out out",
    "nmcl settings model --set model.name=logistic",
    "nmcl settings --out out --toml > settings.toml",
)
def settings(
    section: Annotated[
        str, typer.Argument(help="A section such as split or features.visual, or one setting. Default: all.")
    ] = "",
    out: Annotated[
        str | None, typer.Option("--out", help="Store whose values are shown. Default: the defaults.")
    ] = None,
    toml: Annotated[bool, typer.Option("--toml", help="Print a settings file to edit, for --config.")] = False,
    json: Json = False,
    *,
    options: SettingsOptions,
) -> None:
    """List every setting with its meaning, its default, and its value in a store.

    `--set` and `--config` show what they would change, and change nothing. In the file of `--toml`, defaults are
    comments, so that the file changes only what you edit.
    """
    from nmcl.flows.cli import setting_summary
    from nmcl.flows.setting_list import listed_settings, to_toml
    from nmcl.flows.settings import changed
    from nmcl.flows.stored_settings import in_current_form, unchecked
    from nmcl.pipeline.storage.store import Store

    if json and toml:
        raise UserError("--json and --toml cannot be combined. Use one of them.")
    changes = options.changes()
    current = unchecked(Store.open(out), changes) if out else changed({}, in_current_form(changes))
    rows = listed_settings(current, section)
    if toml:
        console.write(to_toml(rows).removesuffix("\n"))
    else:
        setting_summary.of_settings(rows, json)
