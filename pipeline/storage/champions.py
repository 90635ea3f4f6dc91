"""The champion: the run that predictions come from, and how it came to be so.

`champions.json` is the whole truth, oldest entry first, written at once: history and choice cannot disagree. The link
`champion` follows it, for people.
"""

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from nmcl.pipeline.storage.store import Store

FILE = "champions.json"
LINK = "champion"
How = Literal["first", "retrain", "promote", "rollback"]


@dataclass(frozen=True)
class Entry:
    """One change of the champion."""

    run: str
    """Folder of the run within the store, such as `runs/nmcl-1b2c3d4e5f60`."""
    before: str | None
    """The champion until then."""
    how: How
    """The first run of a store, a retraining that won, a person, or a return to the one before."""
    why: str
    who: str
    when: str
    """UTC, ISO 8601, seconds."""
    data: Mapping[str, Any]
    """What the run was trained on."""
    metrics: Mapping[str, Any]
    """What it scored."""


def history(store: Store) -> list[Entry]:
    """All changes, oldest first. Raises StoreError where the file is damaged."""
    if not store.exists(FILE):
        return []
    content = store.read_json(FILE)
    try:
        return [Entry(**entry) for entry in content["history"]]
    except TypeError as error:  # keys of another version
        raise store.damaged(FILE, str(error)) from error


def champion(store: Store) -> str | None:
    """Folder of the run that is champion; None before there is one."""
    entries = history(store)
    return entries[-1].run if entries else None


def predecessor(entries: list[Entry]) -> str | None:
    """What a rollback returns to: the champion that the present one displaced, whatever was rolled back since."""
    stack: list[str] = []
    for entry in entries:
        if entry.how == "rollback":
            del stack[-1:]
        else:
            stack.append(entry.run)
    return stack[-2] if len(stack) > 1 else None


def promote(store: Store, run: str, how: How, why: str, data: Mapping[str, Any], metrics: Mapping[str, Any]) -> Entry:
    """Make a run the champion, unless it is. Where this is interrupted, either all of it happened or nothing."""
    entries = history(store)
    if entries and entries[-1].run == run:
        entry = entries[-1]
    else:
        before = entries[-1].run if entries else None
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(run, before, how, why, _who(), now, data, metrics)
        entries.append(entry)
        store.write_json(FILE, {"champion": run, "history": [asdict(e) for e in entries]})
    store.point(LINK, run)
    return entry


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that nobody has
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
