"""Temporary folders. The next command removes those that a killed command has left.

Each folder contains a locked file while its process runs. The lock is released when the process ends for any reason, so
a folder whose lock is free is unused.
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
"""Minimum age for removing a folder without a lock: it may be just being made, or in use by an earlier version."""


@contextmanager
def scratch(purpose: str, beside: Path | None = None) -> Iterator[Path]:
    """Create a folder `nmcl-PURPOSE-...` on this machine's disk that is removed after the block.

    Args:
        beside: Existing parent folder, for files that are later renamed into it; then the name begins with a dot. None:
            the folder of temporary files, `TMPDIR`.

    Raises:
        StoreError: If it cannot be created.
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
    """Create a folder that gets its name only once it is locked, and return it with its lock."""
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
    """Remove the folders that killed commands of this user left in a folder, by default that of temporary files."""
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
    is_old = time.time() - status.st_mtime > _UNLOCKED_FOR_S
    if os.path.basename(path).startswith(_NEW) and not is_old:
        return  # its process may have made the file, and be about to lock it
    try:
        owner = os.open(os.path.join(path, _OWNER), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if is_old:
            shutil.rmtree(path, ignore_errors=True)
        return
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(owner)
