"""Whether two stores are equal, byte for byte, but for what carries the time of the day or takes its time."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from tests.faults.world import files_of

SECONDS = {
    "timings/*": "seconds that a stage took, which nothing but reports reads; left out",
    "metrics.json": "`seconds` and `extract_seconds`, the sums of these; all other keys are compared",
    "made_with.json": "`command`, which names the folder; all else is compared",
    "champions.json": "`when` of each entry; all else is compared",
    "drift.json": "`when`; all else is compared",
    "comparison.json": "`when`; all else is compared",
    "report.html": "the time of the day, the command line and the table of seconds; all else is compared",
    "retraining.html": "the time of the day; all else is compared",
}
"""All that may differ between a disturbed store and an undisturbed one, with the reason."""


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file by its name, without what `SECONDS` lists; links as what they lead to."""
    kept = (path for path in files_of(folder) if path.parent.name != "timings")
    return {str(path.relative_to(folder)): _content(path, folder) for path in kept}


def differences(found: Path, expected: Path) -> list[str]:
    """What is different in two folders, a line each."""
    one, other = contents(found), contents(expected)
    missing = [f"missing: {name}" for name in other if name not in one]
    extra = [f"extra: {name}" for name in one if name not in other]
    return [*missing, *extra, *(f"differs: {name}" for name in one if name in other and one[name] != other[name])]


def digest_of(folder: Path) -> str:
    """One number for the folder's names and contents: equal for two that `differences` finds equal."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    return hashlib.sha256(repr((names, sorted(contents(folder).items()))).encode()).hexdigest()


def _content(path: Path, folder: Path) -> bytes | str:
    if path.is_symlink():
        return os.readlink(path)
    data = path.read_bytes()
    match path.name:
        case "metrics.json":
            return _without(data, {"seconds", "extract_seconds"})
        case "made_with.json":
            return _without(data, {"command"})
        case "champions.json" | "drift.json" | "comparison.json":
            return _without(data, {"when"})
        case "report.html" | "retraining.html":
            text = data.decode().replace(str(folder), "FOLDER")
            text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "WHEN", text)
            text = re.sub(r"<pre><code>nmcl.*?</code></pre>", "COMMAND", text, flags=re.DOTALL)
            return re.sub(r"<caption>Wall-clock time.*?</table>", "SECONDS", text, flags=re.DOTALL)
        case _:
            return data


def _without(data: bytes, names: set[str]) -> str:
    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(inner) for name, inner in value.items() if name not in names}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(kept(json.loads(data)), sort_keys=True)
