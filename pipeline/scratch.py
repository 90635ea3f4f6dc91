"""Temporary folders that do not outlive their command for long: what a killed one leaves, the next one removes.

Each folder holds a locked file while its process lives. The lock ends with the process, however that ends; so a folder
whose lock can be had belongs to nobody.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir

from nmcl.pipeline.os_errors import store_error

PREFIX = "nmcl-"
_NEW = ".nmcl-new-"
_OWNER = ".owner"
_UNLOCKED_FOR_S = 86_400.0
"""A folder without a lock may be one that is just being made, or that an earlier version works in."""


@contextmanager
def scratch(purpose: str, beside: Path | None = None) -> Iterator[Path]:
    """A folder `nmcl-PURPOSE-...` on this machine's disk that is gone after the block.

    Args:
        beside: the folder to make it in, which must be there: for files that are to be renamed into it; then its name
            begins with a dot. None: that of temporary files, `TMPDIR`.

    Raises:
        StoreError: it cannot be made.
    """
    parent = beside or Path(gettempdir())
    sweep(parent)
    try:
        folder, owner = _made(parent, f"{'.' if beside else ''}{PREFIX}{purpose}-")
    except OSError as error:
        raise store_error(error, f"A temporary folder in {parent}", "made") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    """A folder with its lock, which has its name only when it is locked."""
    new = tempfile.mkdtemp(prefix=_NEW, dir=parent)
    try:
        owner = os.open(os.path.join(new, _OWNER), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(owner, fcntl.LOCK_EX)
        folder = parent / f"{prefix}{os.path.basename(new).removeprefix(_NEW)}"
        os.rename(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return folder, owner


def sweep(parent: Path | None = None) -> None:
    """Remove what killed commands of this user left in a folder. Args: parent: None: that of temporary files."""
    parent = parent or Path(gettempdir())
    with suppress(OSError), os.scandir(parent) as entries:
        found = [e.path for e in entries if e.name.startswith((PREFIX, f".{PREFIX}"))]
        for path in found:
            with suppress(OSError):
                _sweep_one(path)


def _sweep_one(path: str) -> None:
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return
    try:
        owner = os.open(os.path.join(path, _OWNER), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if time.time() - status.st_mtime > _UNLOCKED_FOR_S:
            shutil.rmtree(path, ignore_errors=True)
        return
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(owner)
