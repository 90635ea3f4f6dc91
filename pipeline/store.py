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

A file is written whole or not at all: to a temporary name, flushed to disk, then renamed. So a file that exists is
done, and a process killed at any point leaves a store that the same command completes.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import StoreError, StoreTakenError

FORMAT = 1
_MARKER = "store.json"
_SCRATCH = ".tmp"
_LOCK = ".lock"
_held: set[str] = set()
"""Roots that this process has locked: a flow within a flow may lock again."""


class Store:
    """Files by relative name under one root. Names use forward slashes and never leave the root."""

    def __init__(self, root: str | Path) -> None:
        self.fs, self.root = fsspec.core.url_to_fs(str(root))
        self.is_local: bool = "file" in self.fs.protocol

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
            StoreError: the folder holds other things.
        """
        store = cls(root)
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
        return f"{self.root}/{name}" if name else str(self.root)

    def local_path(self, name: str = "") -> Path:
        """Where `name` lies on this machine's disk. Raises StoreError for an object store."""
        if not self.is_local:
            raise StoreError(f"{self.root} is an object store; a local folder is needed here.")
        return Path(self._full(name))

    def exists(self, name: str) -> bool:
        """Whether the file was written; if so, whole."""
        return bool(self.fs.exists(self._full(name)))

    def modified(self, name: str) -> str:
        """When a file was written: UTC, ISO 8601."""
        moment: datetime = self.fs.modified(self._full(name))
        return moment.astimezone(UTC).isoformat(timespec="milliseconds")

    def list(self, folder: str) -> list[str]:
        """Names right under `folder`, sorted; empty where there is no such folder."""
        full = self._full(folder)
        if not self.fs.exists(full):
            return []
        return sorted(entry.rstrip("/").rsplit("/", 1)[-1] for entry in self.fs.ls(full, detail=False))

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises StoreError where it is missing."""
        try:
            return bytes(self.fs.cat_file(self._full(name)))
        except FileNotFoundError as error:
            full = self._full(name)
            raise StoreError(f"{full} is missing. Run the command again: it makes what is missing.") from error

    def read_json(self, name: str) -> Any:
        """Parsed JSON of a file. Raises StoreError where it is missing or damaged."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            full = self._full(name)
            raise StoreError(f"{full} is damaged ({error}). Delete it and run the command again.") from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole, or leave what was there. Raises StoreError when the disk is full or read-only."""
        try:
            if self.is_local:
                self._replace(Path(self._full(name)), data)
            else:
                self.fs.pipe_file(self._full(name), data)
        except OSError as error:
            raise self._translated(error, name) from error

    def write_json(self, name: str, value: Any) -> None:
        """Write JSON with sorted keys, so that equal values are equal bytes."""
        text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        self.write(name, f"{text}\n".encode())

    def point(self, name: str, target: str) -> None:
        """Make `name` lead to the folder `target`, at once: a symbolic link on disk, a copy on an object store."""
        if not self.is_local:
            for file in self.fs.find(self._full(target)):
                self.fs.copy(file, file.replace(self._full(target), self._full(name), 1))
            return
        if self.leads(name, target):
            return
        link = self.local_path(name)
        temporary = self._scratch() / f"link-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        os.replace(temporary, link)

    def leads(self, name: str, target: str) -> bool:
        """Whether `point` made `name` lead to `target`."""
        if self.is_local:
            link = self.local_path(name)
            return link.is_symlink() and os.readlink(link) == target
        return self.exists(name)

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

    def _translated(self, error: OSError, name: str) -> StoreError:
        full = self._full(name)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError(
                f"No space is left for {full}. What was finished is kept: "
                "free some space and run the same command again."
            )
        return StoreError(f"{full} cannot be written: {error.strerror or error}. Check the folder and its permissions.")

    @property
    def is_held(self) -> bool:
        """Whether this process has locked it."""
        return str(self.root) in _held

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for one writer of this machine, and sweep what a killed one left. May be nested.

        Raises:
            StoreTakenError: another process holds it.
        """
        if not self.is_local or self.is_held:
            yield
            return
        path = self.local_path(_LOCK)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreTakenError(
                    f"Another nmcl command is writing to {self.root}. Wait for it, or name another --out."
                ) from error
            shutil.rmtree(self._full(_SCRATCH), ignore_errors=True)
            _held.add(str(self.root))
            try:
                yield
            finally:
                _held.discard(str(self.root))
                shutil.rmtree(self._full(_SCRATCH), ignore_errors=True)
