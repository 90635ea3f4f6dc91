"""Disk use of a store: its files by artifact, from one listing, and their removal."""

from collections.abc import Iterable
from dataclasses import dataclass

from nmcl.pipeline.storage.artifacts import DIGEST_SUFFIX, METADATA, RECIPE, TABLES
from nmcl.pipeline.storage.store import Store

ARTIFACTS = (*TABLES, "states", "runs", "drift")
"""Folders of the store that hold one folder for each artifact."""
_REMOVED_FIRST = ("metrics.json", "model.json", "state.json")
"""Files that say that others are complete."""


@dataclass(frozen=True)
class Stored:
    """One artifact of a store and its files, or files that belong to no artifact."""

    folder: str
    """Folder of the artifact; else `videos`, `predicted` or `timings`; empty for the files of the store itself."""
    sizes: dict[str, int]
    """Bytes by name of the file in the store; those of an artifact include its recipe and its digests."""

    @property
    def kind(self) -> str:
        """Kind of the artifact, or what the files belong to."""
        return self.folder.split("/")[0] or "store"

    @property
    def is_artifact(self) -> bool:
        """Whether it is an artifact with an address."""
        return "/" in self.folder

    @property
    def n_bytes(self) -> int:
        """Total size of the files."""
        return sum(self.sizes.values())


def stored(store: Store) -> list[Stored]:
    """Return everything in a store, sorted by folder."""
    found: dict[str, dict[str, int]] = {}
    for name, n_bytes in store.sizes().items():
        found.setdefault(_owner(name), {})[name] = n_bytes
    return [Stored(folder, found[folder]) for folder in sorted(found)]


def _owner(name: str) -> str:
    parts = name.removeprefix(f"{METADATA}/").split("/")
    if parts[0] in ARTIFACTS and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0] if len(parts) > 1 else ""


def in_safe_order(names: Iterable[str]) -> list[str]:
    """Return the files of one artifact in an order of removal that leaves no file without what describes it."""

    def rank(name: str) -> int:
        last = name.rsplit("/", 1)[-1]
        if last == RECIPE:
            return 3
        if last.endswith(DIGEST_SUFFIX):
            return 2
        return 0 if last in _REMOVED_FIRST else 1

    return sorted(names, key=lambda name: (rank(name), name))
