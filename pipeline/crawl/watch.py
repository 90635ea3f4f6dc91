"""Detection of crawls in a watched folder: each of its subfolders is one."""

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WatchedCrawl:
    """Crawl that has arrived, or is being copied."""

    folder: Path
    """Absolute path."""
    changed: float
    """Time of the last change of anything in it, in seconds since 1970."""

    @property
    def quiet_s(self) -> float:
        """Seconds since the last change."""
        return max(0.0, time.time() - self.changed)


def watched_crawls(watched: Path) -> list[WatchedCrawl]:
    """Return the subfolders that hold a file, by name, without hidden ones; empty if there is no such folder."""
    if not os.path.isdir(watched):
        return []
    with os.scandir(watched.resolve()) as items:
        folders = sorted(item.path for item in items if not item.name.startswith(".") and os.path.isdir(item.path))
    found = ((folder, *_look(folder)) for folder in folders)
    return [WatchedCrawl(Path(folder), changed) for folder, holds_file, changed in found if holds_file]


def _look(folder: str) -> tuple[bool, float]:
    """Return whether a folder contains a file, and the time of the last change in it.

    Uses the time of change, not of modification, which rsync and `cp --archive` preserve from the source. Unreadable
    entries do not count.
    """
    holds_file, changed = False, _changed(folder)
    for parent, _, names in os.walk(folder):
        changed = max(changed, _changed(parent))
        for name in names:
            path = os.path.join(parent, name)
            holds_file = holds_file or os.path.isfile(path)
            changed = max(changed, _changed(path))
    return holds_file, changed


def _changed(path: str) -> float:
    try:
        return os.lstat(path).st_ctime
    except FileNotFoundError:  # such as a temporary name that was renamed meanwhile
        return time.time()
    except OSError:
        return 0.0
