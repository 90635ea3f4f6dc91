"""What `nmcl settings` prints."""

import json
import textwrap
from dataclasses import asdict

from nmcl.flows import console
from nmcl.flows.setting_list import ListedSetting


def of_settings(rows: list[ListedSetting], as_json: bool) -> None:
    """Print settings: one line with the value and the default, and the meaning below it."""
    if as_json:
        console.write(json.dumps([asdict(row) for row in rows], indent=1))
        return
    for row in rows:
        default = f"   (default: {_shown(row.default)})" if row.is_changed else ""
        console.say(f"{row.name} = {_shown(row.value)}{default}")
        choices = f" One of: {', '.join(row.choices)}." if row.choices else ""
        for line in textwrap.wrap(row.meaning + choices, 100):
            console.say(f"    {line}")
    n_changed = sum(row.is_changed for row in rows)
    console.say(f"{len(rows):,} settings, {n_changed:,} not at their default. Change one: --set NAME=VALUE.")


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
