"""Generator of the tables of settings in the docs: `python -m nmcl.flows.cli.settings_reference docs/*.md`."""

import json
import re
import sys
from pathlib import Path

from nmcl.flows.setting_list import listed_settings
from nmcl.flows.settings import Settings

_ROW = re.compile(r"^\| `([a-z_]+(?:\.[a-z_]+)+)` \| `[^`]+` \| \S.*\|$", re.MULTILINE)


def with_settings(page: str) -> str:
    """Return a Markdown page whose tables of settings have today's defaults and meanings."""
    rows = {row.name: row for row in listed_settings(Settings())}

    def row_of(found: re.Match[str]) -> str:
        if (row := rows.get(found[1])) is None:
            return found[0]
        default = "none" if row.default is None else json.dumps(row.default)
        return f"| `{row.name}` | `{default}` | {row.meaning.replace('|', chr(92) + '|')} |"

    return _ROW.sub(row_of, page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_settings(path.read_text(encoding="utf-8")), encoding="utf-8")
