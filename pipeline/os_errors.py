"""Errors of disks and of clients of object stores, as sentences: what could not be done, why, and what to do."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmcl.pipeline.errors import StoreError

_REASONS = {
    errno.ENOSPC: "No space is left for {what}. What was finished is kept: free some space and run the same command "
    "again.",
    errno.EDQUOT: "The disk quota leaves no room for {what}. What was finished is kept: free some space and run the "
    "same command again.",
    errno.EFBIG: "{what} is larger than this file system or `ulimit -f` allows a file to be. Raise the limit, or name "
    "another folder.",
    errno.EROFS: "{what} cannot be {doing}: its file system is read-only. Mount it for writing, or name another "
    "folder.",
    errno.EIO: "{what} cannot be {doing}: the disk reports an input/output error. Check the disk and its cable or "
    "network, and run the same command again.",
}
DISK_FAULTS = tuple(_REASONS)
"""Errors that no code of ours causes."""
LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""What a second try a moment later does not change."""


def is_transient(error: BaseException) -> bool:
    """Whether reading or writing failed, itself or as the cause, in a way that may be over a moment later."""
    cause = error.__cause__ or error
    lasting = isinstance(cause, FileNotFoundError | PermissionError)
    return isinstance(cause, OSError) and not lasting and cause.errno not in LASTING


@contextmanager
def translated(what: str, doing: str) -> Iterator[None]:
    """Errors of a file system or of the client of an object store, as StoreError. A missing file stays what it is."""
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
    """As `translated`, but that the folder is not there is an error of its own too."""
    try:
        with translated(what, "written"):
            yield
    except FileNotFoundError as error:
        raise StoreError(f"{what} cannot be written: {error}. Is there such a bucket or folder?") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file. Raises StoreError, naming it, when that cannot be done."""
    with writing(str(path)):
        path.write_bytes(data)


def store_error(error: OSError, what: str, doing: str) -> StoreError:
    """The sentence for one error. Args: what: the file or folder. doing: such as `read` or `written`."""
    reason = _REASONS.get(error.errno or 0)
    if reason:
        return StoreError(reason.format(what=what, doing=doing))
    return StoreError(f"{what} cannot be {doing}: {error.strerror or error}. Check the folder and its permissions.")


def _client_errors() -> tuple[type[Exception], ...]:
    """What clients of object stores raise besides OSError; only of those that are in use."""
    names = (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)
