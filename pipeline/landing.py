"""Crawls that land in a watched folder: each of its subfolders is one."""

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Landing:
    """A crawl that is there, or on its way."""

    folder: Path
    """Absolute."""
    changed: float
    """When anything in it last changed, in seconds since 1970."""

    @property
    def quiet_s(self) -> float:
        """For how long nothing has changed."""
        return max(0.0, time.time() - self.changed)


def landings(watched: Path) -> list[Landing]:
    """The subfolders that hold a file, by name; hidden ones are left out. Empty where there is no such folder."""
    if not watched.is_dir():
        return []
    folders = sorted(path for path in watched.resolve().iterdir() if path.is_dir() and not path.name.startswith("."))
    return [Landing(folder, _last_change(folder)) for folder in folders if any(p.is_file() for p in folder.rglob("*"))]


def _last_change(folder: Path) -> float:
    """By the time of change, not of modification, which rsync and `cp --archive` bring along from elsewhere."""
    try:
        return max(path.lstat().st_ctime for path in (folder, *folder.rglob("*")))
    except FileNotFoundError:  # such as a temporary name that was renamed meanwhile
        return time.time()
