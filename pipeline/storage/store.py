"""Store: one folder (or object-store URL) for everything the pipeline makes. The only module that imports fsspec.

    store.json                                   marks this folder as a store
    catalogue.json                               the crawls that were ingested, and their parts in order
    videos/part-KEY.parquet                      rows of the catalogue
    states/NAME-ADDRESS/                         fitted states of extractors and completers
    features/MODALITY-ADDRESS/part-KEY.parquet   vectors, null where absent, and failures
    completed/ADDRESS/part-KEY.parquet           every modality of every video, and which were observed
    metadata/                                    recipes and digests of features, completed and failures
    runs/NAME-ADDRESS/                           model, metrics, predictions, report
    latest -> runs/NAME-ADDRESS                  the newest run
    champion -> runs/NAME-ADDRESS                the run used for predictions
    champions.json                               the history of champions

On an object store, which has no links, `latest.json` and `champion.json` name the folder.

Files are written atomically: to a temporary name, flushed to disk, then renamed; on an object store by one request. So
a file that exists is complete, and after a kill at any point the same command can resume.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from nmcl.pipeline.errors import StoreError, StoreTakenError
from nmcl.pipeline.os_errors import translated as translated
from nmcl.pipeline.os_errors import writing as writing
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.storage import shapes
from nmcl.pipeline.storage.files import replace_file
from nmcl.pipeline.storage.lease import Lease
from nmcl.pipeline.text import listed

FORMAT = 1
MARKER = "store.json"
_SCRATCH = ".tmp"
_LOCK = ".lock"
POINTERS = ("latest", "champion")
"""Names that link to a folder."""
CHAMPIONS = "champions.json"
"""History of the champions, see `nmcl.pipeline.storage.runs`."""
KEPT = (MARKER, "catalogue.json", "settings.json", CHAMPIONS)
"""Files that no command recreates."""
_held: dict[str, Lease | None] = {}
"""Stores that this process has locked, by URL: nested flows may lock again."""
T = TypeVar("T")


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it.

    Listings are not cached, so others' writes are visible at once.

    Raises:
        StoreError: If the protocol is unknown, or its package is not installed.
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
            f"{url} cannot be opened: {error}. Use a folder, or a URL such as s3://bucket/store."
        ) from error
    return fs, str(path).rstrip("/")


def is_url(address: str) -> bool:
    """Return whether an address is a URL and not a path on this machine's disk."""
    return "://" in address and not address.startswith(("file://", "local://"))


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON with sorted keys, so that equal values are equal bytes."""
    return f"{json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)}\n".encode()


class Store:
    """Files by relative name under one root. Names use forward slashes and never leave the root."""

    def __init__(self, root: str | Path) -> None:
        self.fs, self.root = file_system(str(root))
        self.is_local: bool = "file" in self.fs.protocol
        self.url: str = self.root if self.is_local else self.fs.unstrip_protocol(self.root)
        """Address that opens the store again, here and on other machines."""

    @classmethod
    def open(cls, root: str | Path) -> "Store":
        """Open a store that exists.

        Raises:
            StoreError: If there is none, or it was written by a newer version.
        """
        store = cls(root)
        if not store.exists(MARKER):
            raise StoreError(
                f"{root} is not an nmcl store (it has no {MARKER}). "
                f"Start one with `nmcl run CRAWL --out {root}` or `nmcl ingest CRAWL --out {root}`."
            )
        found = store.read_json(MARKER)["format"]
        if found != FORMAT:
            raise StoreError(f"{root} has store format {found}; this version reads format {FORMAT}. Upgrade nmcl.")
        return store

    @classmethod
    def create(cls, root: str | Path) -> "Store":
        """Open the store at `root`, or create it if the folder is absent or empty.

        Raises:
            StoreError: If the folder holds other things, or is a file.
        """
        store = cls(root)
        if store.is_local and os.path.isfile(store.root):
            raise StoreError(f"{root} is a file. Use an empty or a new folder.")
        if not store.exists(MARKER):
            foreign = [name for name in store.list("") if name not in (_SCRATCH, _LOCK)]
            if foreign:
                raise StoreError(
                    f"{root} is neither empty nor an nmcl store: it contains {listed(foreign, 3)}. "
                    "Use an empty or a new folder."
                )
            store.write_json(MARKER, {"format": FORMAT, "made_by": "nmcl"})
        return cls.open(root)

    def _full(self, name: str) -> str:
        first, slash, rest = name.partition("/")
        if slash and first in POINTERS and not self.is_local:
            name = f"{self.target(first)}/{rest}"
        return f"{self.root}/{name}" if name else self.root

    def where(self, name: str) -> str:
        """Return the location for people: an absolute path on this machine's disk, or a URL."""
        return str(self.local_path(name).absolute()) if self.is_local else self.fs.unstrip_protocol(self._full(name))

    def local_path(self, name: str = "") -> Path:
        """Return the path of `name` on this machine's disk. Raises StoreError for an object store."""
        if not self.is_local:
            raise StoreError(f"{self.url} is an object store; a local folder is needed here.")
        return Path(self._full(name))

    def exists(self, name: str) -> bool:
        """Return whether the file was written; if so, it is complete."""
        with translated(self.where(name), "read"):
            if not self.is_local:
                return bool(self.fs.exists(self._full(name)))
            try:  # os.path.exists returns False for a file without permission
                os.stat(self._full(name))
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def has_all(self, names: Iterable[str]) -> bool:
        """Return whether all these files were written; each folder is listed once, however many files are named."""
        files = cache(lambda folder: set(self.list(folder)))
        return all(file in files(folder) for folder, _, file in (name.rpartition("/") for name in names))

    def modified(self, name: str) -> str:
        """Return the time a file was written: UTC, ISO 8601."""
        with translated(self.where(name), "read"):
            moment: datetime = self.fs.modified(self._full(name))
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")

    def list(self, folder: str) -> list[str]:
        """Return the names directly under `folder`, sorted; empty if there is no such folder."""
        try:
            with translated(self.url, "read"):
                entries = self.fs.ls(self._full(folder), detail=False)
        except FileNotFoundError:
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in entries)

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of every file, by name; without links, locks and unfinished files."""
        with translated(self.url, "read"):
            found = self.fs.find(self.root, detail=True)
        sizes = {
            path.removeprefix(f"{self.root}/"): int(info["size"] or 0)
            for path, info in found.items()
            if not info.get("islink")
        }
        return {name: sizes[name] for name in sorted(sizes) if name != _LOCK and not name.startswith(f"{_SCRATCH}/")}

    def open_file(self, name: str) -> BinaryIO:
        """Open a file to read some of it. Raises StoreError if it is missing."""
        try:
            with translated(self.where(name), "read"):
                opened: BinaryIO = self.fs.open(self._full(name), "rb")
                return opened
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.where(name)} is missing. Run the command again: it recreates missing files."
            ) from error

    def read(self, name: str) -> bytes:
        """Return all bytes of a file. Raises StoreError if it is missing."""
        try:
            with translated(self.where(name), "read"):
                return bytes(self.fs.cat_file(self._full(name)))
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.where(name)} is missing. Run the command again: it recreates missing files."
            ) from error

    def read_json(self, name: str) -> Any:
        """Return the parsed JSON of a file.

        Raises:
            StoreError: If the file is missing, damaged, or not of its name's schema (`nmcl.pipeline.storage.shapes`).
        """
        return self._parsed(name, lambda data: shapes.parse_json(data, shapes.of(name)))

    def read_record(self, name: str, kind: type[T]) -> T:
        """Return a JSON file as a frozen dataclass. Unknown keys are ignored.

        Raises:
            StoreError: If the file is missing, damaged, or of another shape.
        """
        return self._parsed(name, lambda data: shapes.parse_record(data, kind))

    def find_record(self, name: str, kind: type[T]) -> T | None:
        """Return `read_record` of a file; None if there is none."""
        return self.read_record(name, kind) if self.exists(name) else None

    def _parsed(self, name: str, parse: Callable[[bytes], T]) -> T:
        data = self.read(name)
        try:
            return parse(data)
        except (ValueError, RecursionError) as error:
            raise self.damaged(name, str(error)) from error

    def damaged(self, name: str, reason: str) -> StoreError:
        """Return the error of a file that nmcl did not write like this; `reason` is what was found in it."""
        if name in KEPT:
            way_out = "Restore it from a backup"
            way_out += "" if name in (MARKER, "catalogue.json") else ", or delete it"
        else:
            way_out = "Delete it, and repeat the command that created it"
        return StoreError(f"{self.where(name)} is damaged or was not written by nmcl ({reason[:500]}). {way_out}.")

    def write(self, name: str, data: bytes) -> None:
        """Write a file completely, or leave the old content; raise StoreError on failure."""
        lease = _held.get(self.url)
        if lease is not None and lease.is_lost:
            raise StoreError(
                f"{self.url} was unreachable for too long, and another nmcl command took it over. Run again."
            )
        with writing(self.where(name)):
            if self.is_local:
                replace_file(Path(self._full(name)), data, self._scratch())
            else:
                self.fs.pipe_file(self._full(name), data)

    def write_json(self, name: str, value: Any) -> None:
        """Write `json_bytes` of a value."""
        self.write(name, json_bytes(value))

    def remove(self, name: str) -> None:
        """Remove a file if it exists; raise StoreError on failure."""
        with suppress(FileNotFoundError), translated(self.where(name), "removed"):
            self.fs.rm_file(self._full(name))

    def remove_folder_if_empty(self, folder: str) -> None:
        """Remove a folder that has no files; an object store has no folders of its own."""
        if self.is_local:
            with suppress(OSError):
                self.local_path(folder).rmdir()

    def point(self, name: str, target: str) -> None:
        """Link `name` to the folder `target` atomically: a symbolic link on disk, a small file elsewhere.

        Args:
            name: One of `latest` and `champion`.
        """
        if self.leads(name, target):
            return
        if not self.is_local:
            self.write_json(f"{name}.json", {"leads_to": target})
            return
        link = self.local_path(name)
        with writing(str(link)):
            temporary = self._scratch() / f"link-{os.getpid()}"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            os.replace(temporary, link)

    def leads(self, name: str, target: str) -> bool:
        """Return whether `name` links to `target`."""
        return self.target(name) == target

    def target(self, name: str) -> str | None:
        """Return the folder that `name` links to; None if it was never set."""
        if self.is_local:
            with translated(self.url, "read"), suppress(FileNotFoundError, NotADirectoryError):
                link = self.local_path(name)
                return os.readlink(link) if link.is_symlink() else None
            return None
        if not self.exists(f"{name}.json"):
            return None
        target: str = self.read_json(f"{name}.json")["leads_to"]
        return target

    @contextmanager
    def folder_to_read(self, folder: str) -> Iterator[Path]:
        """Provide the files directly in a folder on this machine's disk within the block."""
        if self.is_local:
            yield self.local_path(folder)
            return
        with scratch("read") as temporary:
            for name in self.list(folder):
                with writing(str(temporary)):
                    Path(temporary, name).write_bytes(self.read(f"{folder}/{name}"))
            yield temporary

    @contextmanager
    def folder_to_write(self, folder: str) -> Iterator[Path]:
        """Provide a folder on this machine's disk whose files are stored after the block, in the order of writing."""
        if self.is_local:
            yield self.local_path(folder)
            return
        with scratch("write") as temporary:
            yield temporary
            made = [path for path in temporary.iterdir() if not path.name.startswith(".")]
            for path in sorted(made, key=lambda path: path.stat().st_mtime_ns):
                self.write(f"{folder}/{path.name}", path.read_bytes())

    def _scratch(self) -> Path:
        folder = self.local_path(_SCRATCH)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def is_held(self) -> bool:
        """Whether this process has locked the store."""
        return self.url in _held

    @contextmanager
    def locked(self, may_be_read_only: bool = False) -> Iterator[None]:
        """Lock the store for one writer, and remove what a killed one left. May be nested.

        Args:
            may_be_read_only: Continue unlocked if nothing can be written anyway: for commands that may find everything
                done.

        Raises:
            StoreTakenError: If another process holds the lock.
            StoreError: If the store cannot be written.
        """
        is_read_only = self.is_local and not os.access(self.root, os.W_OK)
        if self.is_held or (may_be_read_only and is_read_only):
            yield
            return
        with self._locked_file() if self.is_local else Lease(self.fs, self._full(_LOCK), self.url).held() as lease:
            _held[self.url] = lease
            try:
                self._reset_link()
                yield
            finally:
                del _held[self.url]

    def _reset_link(self) -> None:
        """Link to the champion of the history, if a promotion was interrupted between the link and the history."""
        with suppress(StoreError):  # a damaged history is reported by what reads it
            if self.exists(CHAMPIONS):
                self.point("champion", self.read_json(CHAMPIONS)["champion"])

    @contextmanager
    def _locked_file(self) -> Iterator[None]:
        path = self.local_path(_LOCK)
        with ExitStack() as stack:
            with writing(str(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(path.open("a"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise StoreTakenError(
                        f"Another nmcl command is writing to {self.url}. Wait until it finishes, or use another --out."
                    ) from error
            shutil.rmtree(self._full(_SCRATCH), ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self._full(_SCRATCH), ignore_errors=True)
