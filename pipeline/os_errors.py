"""Conversion of disk and object store errors to sentences: what failed, why, and what to do."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmcl.pipeline.errors import StoreError

_REASONS = {
    errno.ENOSPC: "No space is left for {what}. Finished work is kept: free some space and run the same command again.",
    errno.EDQUOT: "The disk quota is too small for {what}. Finished work is kept: free some space and run the same "
    "command again.",
    errno.EFBIG: "{what} exceeds the maximum file size of this file system or of `ulimit -f`. Raise the limit, or use "
    "another folder.",
    errno.EROFS: "{what} cannot be {doing}: its file system is read-only. Mount it for writing, or use another folder.",
    errno.EIO: "{what} cannot be {doing}: the disk reports an input/output error. Check the disk and its cable or "
    "network, and run the same command again.",
}
DISK_FAULTS = tuple(_REASONS)
"""Errors that are never caused by a bug in nmcl."""
LASTING = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG,
    errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO,  # not a file
)  # fmt: skip
"""Errors that an immediate retry does not fix."""


def is_transient(error: BaseException) -> bool:
    """Return whether an error, or its cause, is a read or write failure that may be temporary."""
    cause = error.__cause__ or error
    lasting = isinstance(cause, FileNotFoundError | PermissionError)
    return isinstance(cause, OSError) and not lasting and cause.errno not in LASTING


@contextmanager
def translated(what: str, doing: str) -> Iterator[None]:
    """Convert file system and object store errors to StoreError. A missing file's error is not converted."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise store_error(error, what, doing) from error
    except _client_errors() as error:
        raise StoreError(f"{what} cannot be {doing}: {error}.") from ConnectionError(str(error))


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Convert errors like `translated`, including that of a missing folder."""
    try:
        with translated(what, "written"):
            yield
    except FileNotFoundError as error:
        raise StoreError(f"{what} cannot be written: {error}. Does the bucket or folder exist?") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file; raise StoreError with its name on failure."""
    with writing(str(path)):
        path.write_bytes(data)


def store_error(error: OSError, what: str, doing: str) -> StoreError:
    """Return the error with its sentence.

    Args:
        what: The file or folder.
        doing: A verb such as `read` or `written`.
    """
    reason = _REASONS.get(error.errno or 0)
    if reason:
        return StoreError(reason.format(what=what, doing=doing))
    return StoreError(f"{what} cannot be {doing}: {error.strerror or error}. Check the folder and its permissions.")


def _client_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions besides OSError of the object store clients that are in use."""
    names = (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
