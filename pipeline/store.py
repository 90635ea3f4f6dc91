"""The store: one folder (or object-store URL) that holds everything the pipeline made. The only door to fsspec.

    store.json                                   what this folder is
    catalogue.json                               the crawls that were ingested, and their parts in order
    videos/part-KEY.parquet                      rows of the catalogue
    states/NAME-ADDRESS/                         what an extractor or a completer learnt
    features/MODALITY-ADDRESS/part-KEY.parquet   vectors, null where absent, and failures
    completed/ADDRESS/part-KEY.parquet           every modality of every video, and which were observed
    runs/NAME-ADDRESS/                           model, metrics, predictions, report
    latest -> runs/NAME-ADDRESS                  the newest run
    champion -> runs/NAME-ADDRESS                the run that predictions come from
    champions.json                               how it came to be so

On an object store, which has no links, `latest.json` and `champion.json` name the folder.

A file is written whole or not at all: to a temporary name, flushed to disk, then renamed; on an object store by one
request. So a file that exists is done, and a process killed at any point leaves a store that the same command goes on
with.
"""

import errno
import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import StoreError, StoreTakenError
from pipeline.lease import Lease

FORMAT = 1
_MARKER = "store.json"
_SCRATCH = ".tmp"
_LOCK = ".lock"
POINTERS = ("latest", "champion")
"""Names that lead to a folder."""
_held: dict[str, Lease | None] = {}
"""Stores that this process has locked, by URL: a flow within a flow may lock again."""


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. What others write is seen at once: listings are not kept.

    Raises:
        StoreError: no such protocol, or its package is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = "nmcl[s3]" if url.startswith("s3") else "the package that fsspec names"
        raise StoreError(
            f"{url} needs a package that is not installed ({error}). Install it: "
            f"{sys.executable} -m pip install -c constraints.txt '{extra}'"
        ) from error
    except ValueError as error:
        raise StoreError(
            f"{url} cannot be opened: {error}. Name a folder, or a URL such as s3://bucket/store."
        ) from error
    return fs, str(path).rstrip("/")


def is_url(address: str) -> bool:
    """Whether an address is a URL of another place than this machine's disk."""
    return "://" in address and not address.startswith(("file://", "local://"))


@contextmanager
def translated(what: str, doing: str) -> Iterator[None]:
    """Errors of a file system or of the client of an object store, as StoreError. A missing file stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _store_error(error, what, doing) from error
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


def _client_errors() -> tuple[type[Exception], ...]:
    """What clients of object stores raise besides OSError; only of those that are in use."""
    names = (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
    return tuple(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)


def _store_error(error: OSError, what: str, doing: str) -> StoreError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"No space is left for {what}. What was finished is kept: free some space and run the same command again."
        )
    return StoreError(f"{what} cannot be {doing}: {error.strerror or error}. Check the folder and its permissions.")


class Store:
    """Files by relative name under one root. Names use forward slashes and never leave the root."""

    def __init__(self, root: str | Path) -> None:
        self.fs, self.root = file_system(str(root))
        self.is_local: bool = "file" in self.fs.protocol
        self.url: str = self.root if self.is_local else self.fs.unstrip_protocol(self.root)
        """What opens it again, here and on other machines."""

    @classmethod
    def open(cls, root: str | Path) -> "Store":
        """Open a store that exists.

        Raises:
            StoreError: there is none, or it was written by a newer version.
        """
        store = cls(root)
        if not store.exists(_MARKER):
            raise StoreError(
                f"{root} is not an nmcl store (it has no {_MARKER}). "
                f"Start one with `nmcl run CRAWL --out {root}` or `nmcl ingest CRAWL --out {root}`."
            )
        found = store.read_json(_MARKER).get("format")
        if found != FORMAT:
            raise StoreError(f"{root} has store format {found}; this version reads format {FORMAT}. Upgrade nmcl.")
        return store

    @classmethod
    def create(cls, root: str | Path) -> "Store":
        """Open the store at `root`, made anew where the folder is absent or empty.

        Raises:
            StoreError: the folder holds other things, or is a file.
        """
        store = cls(root)
        if store.is_local and os.path.isfile(store.root):
            raise StoreError(f"{root} is a file. Name an empty or a new folder.")
        if not store.exists(_MARKER):
            foreign = [name for name in store.list("") if name not in (_SCRATCH, _LOCK)]
            if foreign:
                raise StoreError(
                    f"{root} is neither empty nor an nmcl store: it holds {', '.join(foreign[:3])}. "
                    "Name an empty or a new folder."
                )
            store.write_json(_MARKER, {"format": FORMAT, "made_by": "nmcl"})
        return cls.open(root)

    def _full(self, name: str) -> str:
        first, slash, rest = name.partition("/")
        if slash and first in POINTERS and not self.is_local:
            name = f"{self.target(first)}/{rest}"
        return f"{self.root}/{name}" if name else self.root

    def where(self, name: str) -> str:
        """What a person opens: an absolute path on this machine's disk, or a URL."""
        return str(self.local_path(name).absolute()) if self.is_local else self.fs.unstrip_protocol(self._full(name))

    def local_path(self, name: str = "") -> Path:
        """Where `name` lies on this machine's disk. Raises StoreError for an object store."""
        if not self.is_local:
            raise StoreError(f"{self.url} is an object store; a local folder is needed here.")
        return Path(self._full(name))

    def exists(self, name: str) -> bool:
        """Whether the file was written; if so, whole."""
        with translated(self.url, "read"):
            return bool(self.fs.exists(self._full(name)))

    def has_all(self, names: Iterable[str]) -> bool:
        """Whether all these files were written. Each folder is looked at once, however many of its files are named."""
        found: dict[str, set[str]] = {}
        for name in names:
            folder, _, file = name.rpartition("/")
            if folder not in found:
                found[folder] = set(self.list(folder))
            if file not in found[folder]:
                return False
        return True

    def modified(self, name: str) -> str:
        """When a file was written: UTC, ISO 8601."""
        moment: datetime = self.fs.modified(self._full(name))
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")

    def list(self, folder: str) -> list[str]:
        """Names right under `folder`, sorted; empty where there is no such folder."""
        try:
            with translated(self.url, "read"):
                entries = self.fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises StoreError where it is missing."""
        try:
            with translated(self.where(name), "read"):
                return bytes(self.fs.cat_file(self._full(name)))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.where(name)} is missing. Run the command again: it makes what is missing."
            ) from error

    def read_json(self, name: str) -> Any:
        """Parsed JSON of a file. Raises StoreError where it is missing or damaged."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise StoreError(
                f"{self.where(name)} is damaged ({error}). Delete it and run the command again."
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, or leave what was there. Raises StoreError when that cannot be done."""
        lease = _held.get(self.url)
        if lease is not None and lease.is_lost:
            raise StoreError(f"{self.url} was not reached for long, and another nmcl command took it over. Run again.")
        with writing(self.where(name)):
            if self.is_local:
                self._replace(Path(self._full(name)), data)
            else:
                self.fs.pipe_file(self._full(name), data)

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON with sorted keys, so that equal values are equal bytes."""
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self.write(name, f"{text}\n".encode())

    def remove(self, name: str) -> None:
        """Remove a file, where it is there. Raises StoreError when that cannot be done."""
        with suppress(FileNotFoundError), translated(self.where(name), "removed"):
            self.fs.rm_file(self._full(name))

    def point(self, name: str, target: str) -> None:
        """Make `name` lead to the folder `target`, at once: a symbolic link on disk, a small file elsewhere.

        Args:
            name: one of `latest` and `champion`.
        """
        if self.leads(name, target):
            return
        if not self.is_local:
            self.write_json(f"{name}.json", {"leads_to": target})
            return
        link = self.local_path(name)
        temporary = self._scratch() / f"link-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, link)

    def leads(self, name: str, target: str) -> bool:
        """Whether `point` made `name` lead to `target`."""
        return self.target(name) == target

    def target(self, name: str) -> str | None:
        """The folder that `name` leads to; None where it was never made to."""
        if self.is_local:
            link = self.local_path(name)
            return os.readlink(link) if link.is_symlink() else None
        if not self.exists(f"{name}.json"):
            return None
        target: str = self.read_json(f"{name}.json")["leads_to"]
        return target

    @contextmanager
    def folder_to_read(self, folder: str) -> Iterator[Path]:
        """The files right in a folder, on this machine's disk while the block runs."""
        if self.is_local:
            yield self.local_path(folder)
            return
        with tempfile.TemporaryDirectory(prefix="nmcl-") as temporary:
            for name in self.list(folder):
                Path(temporary, name).write_bytes(self.read(f"{folder}/{name}"))
            yield Path(temporary)

    @contextmanager
    def folder_to_write(self, folder: str) -> Iterator[Path]:
        """A folder on this machine's disk whose files are in the store after the block, in the order of writing."""
        if self.is_local:
            yield self.local_path(folder)
            return
        with tempfile.TemporaryDirectory(prefix="nmcl-") as temporary:
            yield Path(temporary)
            for path in sorted(Path(temporary).iterdir(), key=lambda path: path.stat().st_mtime_ns):
                self.write(f"{folder}/{path.name}", path.read_bytes())

    def _scratch(self) -> Path:
        folder = self.local_path(_SCRATCH)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _replace(self, path: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=self._scratch())
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    @property
    def is_held(self) -> bool:
        """Whether this process has locked it."""
        return self.url in _held

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for one writer, and sweep what a killed one left. May be nested.

        Raises:
            StoreTakenError: another process holds it.
        """
        if self.is_held:
            yield
        elif self.is_local:
            with self._locked_file():
                yield
        else:
            with Lease(self.fs, self._full(_LOCK), self.url).held() as lease:
                _held[self.url] = lease
                try:
                    yield
                finally:
                    del _held[self.url]

    @contextmanager
    def _locked_file(self) -> Iterator[None]:
        path = self.local_path(_LOCK)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreTakenError(
                    f"Another nmcl command is writing to {self.url}. Wait for it, or name another --out."
                ) from error
            shutil.rmtree(self._full(_SCRATCH), ignore_errors=True)
            _held[self.url] = None
            try:
                yield
            finally:
                del _held[self.url]
                shutil.rmtree(self._full(_SCRATCH), ignore_errors=True)
