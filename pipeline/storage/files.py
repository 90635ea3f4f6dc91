"""Atomic writes of files on this machine's disk."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from nmcl.pipeline.os_errors import writing
from nmcl.pipeline.scratch import scratch


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically, and create its folders: a temporary file next to it, fsync, rename.

    Raises:
        StoreError: If it cannot be written.
    """
    with writing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch("write", path.parent) as folder:
            replace_file(path, data, folder)


def replace_file(path: Path, data: bytes, scratch_folder: Path) -> None:
    """Replace a file atomically, with a temporary file in another folder of the same disk; raise OSError on failure."""
    handle, temporary = tempfile.mkstemp(dir=scratch_folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
