"""Locations of crawls: a folder of this machine, or a URL of an object store.

Remote files are fetched: the listing and the small files when the crawl is read, each video shortly before it is
decoded. No more than a few videos are on the disk at a time.
"""

import errno
import hashlib
import os
import posixpath
import stat
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from nmcl.pipeline.crawl.files import CrawlFiles, checked_root, files_of, list_files
from nmcl.pipeline.crawl.formats import manifests_among
from nmcl.pipeline.errors import ClipError, CrawlError
from nmcl.pipeline.media import Decoder, Request
from nmcl.pipeline.needs import Need
from nmcl.pipeline.records import Content, Video
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.storage.store import file_system, is_url, translated

R = TypeVar("R")
FETCHED_AHEAD = 4
"""Videos fetched while others are decoded."""


class CrawlSource(Protocol):
    """Protocol of a crawl at any location. Paths are relative, with forward slashes."""

    address: str
    """Name in the catalogue: an absolute path, or a URL without a trailing slash."""
    name: str
    """Last part of the address."""

    @contextmanager
    def files(self, with_content: bool = True) -> Iterator[CrawlFiles]:
        """List the files; manifests and sidecars can be read below its `root` within the block.

        Args:
            with_content: False: only list them, without fetching any.

        Raises:
            CrawlError: If the crawl is missing, cannot be read or is empty.
        """

    def exists(self) -> bool:
        """Return whether the crawl exists; an empty folder counts as a disk that is not mounted."""

    def require(self) -> None:
        """Raise CrawlError unless the crawl exists, without reading all of it."""

    def stat(self, path: str) -> tuple[int, int] | None:
        """Return a file's size in bytes and a number that changes with it; None if it cannot be read."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading once; raise OSError on failure."""

    def fetched(self, path: str, into: Path, limit: int) -> Path:
        """Return a file on this machine's disk: its own path, else a copy at `into`.

        A missing file is left to the decoder, which reports it.

        Raises:
            ClipError: If it has more than `limit` bytes.
        """


def crawl_source(address: str | Path) -> CrawlSource:
    """Return the crawl at a path or URL, which need not exist."""
    return _Remote(str(address)) if is_url(str(address)) else _Local(Path(str(address).removeprefix("file://")))


class _Local:
    def __init__(self, folder: Path) -> None:
        self._given = folder
        self._folder = folder.resolve()
        self.address = str(self._folder)
        self.name = self._folder.name

    @contextmanager
    def files(self, with_content: bool = True) -> Iterator[CrawlFiles]:
        yield list_files(self._given)

    def exists(self) -> bool:
        try:
            return next(self._folder.iterdir(), None) is not None
        except OSError:
            return False

    def require(self) -> None:
        checked_root(self._given)

    def stat(self, path: str) -> tuple[int, int] | None:
        try:
            found = (self._folder / path).stat()
        except OSError:
            return None
        return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None

    def open(self, path: str) -> BinaryIO:
        return open(self._folder / path, "rb", opener=_regular)

    def fetched(self, path: str, into: Path, limit: int) -> Path:
        return self._folder / path


def _regular(path: str, flags: int) -> int:
    """Open a regular file without blocking on a pipe; raise OSError if it is not regular."""
    file = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.ENXIO, "not a regular file", path)
    return file


class _Remote:
    def __init__(self, url: str) -> None:
        self._fs, self._root = file_system(url)
        self.address = str(self._fs.unstrip_protocol(self._root))
        self.name = posixpath.basename(self._root)

    @contextmanager
    def files(self, with_content: bool = True) -> Iterator[CrawlFiles]:
        left_out: dict[str, list[str]] = defaultdict(list)
        names = sorted(name for name in self._stats if _is_sound(name, left_out))
        if not self._stats:
            raise self._nothing()
        with scratch("crawl") as folder:
            files = files_of(folder / self.name, names, left_out)
            small = [*manifests_among(files.names), *files.sidecars] if with_content else []
            with translated(self.address, "read"):
                self._fs.get([self._full(name) for name in small], [str(files.root / name) for name in small])
            yield files

    def exists(self) -> bool:
        with translated(self.address, "read"):
            return bool(self._fs.exists(self._root))

    def require(self) -> None:
        if not self.exists():
            raise self._nothing()

    def _nothing(self) -> CrawlError:
        return CrawlError(f"There is nothing under {self.address}. Give the URL of the crawl's folder.")

    @cached_property
    def _stats(self) -> dict[str, tuple[int, int]]:
        """Size and change number of every file, by its path."""
        with translated(self.address, "read"):
            found: dict[str, dict[str, Any]] = self._fs.find(self._root, detail=True)
        return {
            path.removeprefix(f"{self._root}/"): (int(info["size"] or 0), _version(info))
            for path, info in found.items()
        }

    def stat(self, path: str) -> tuple[int, int] | None:
        return self._stats.get(path)

    def open(self, path: str) -> BinaryIO:
        opened: BinaryIO = self._fs.open(self._full(path), "rb")
        return opened

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def fetched(self, path: str, into: Path, limit: int) -> Path:
        try:
            with translated(f"{self.address}/{path}", "read"):
                n_bytes = self._fs.info(self._full(path))["size"]
                if n_bytes > limit:
                    raise ClipError("too_large", f"{n_bytes:,} bytes; the limit is {limit:,}, media.max_fetch_mb")
                self._fs.get_file(self._full(path), str(into))
        except FileNotFoundError:
            pass
        return into


@dataclass(frozen=True)
class VideoRequest:
    """Video to decode, and what is needed of it."""

    source: CrawlSource
    video: Video
    needs: tuple[Need, ...]


def require_root(crawl: str, source: CrawlSource) -> None:
    """Raise CrawlError if the whole crawl named `crawl` has disappeared since it was ingested."""
    if not source.exists():
        raise CrawlError(
            f"The crawl {crawl} is no longer at {source.address}: it was moved, or its disk is not mounted. No "
            f"failures were recorded for its videos. Restore it and run the same command again, or run `nmcl run` on "
            f"its new location."
        )


def contents_of(requests: Sequence[VideoRequest], decoder: Decoder) -> Iterator[Content | ClipError]:
    """Decode videos of crawls at any location, in order. See `nmcl.pipeline.media.Decoder.contents`.

    Each file must have the bytes that were ingested; otherwise the result is ClipError `changed`, never its content.
    """
    limit = decoder.settings.max_fetch_mb * 2**20
    waiting: deque[Path | ClipError] = deque()

    def fetch(i: int) -> Path | ClipError:
        source, video = requests[i].source, requests[i].video
        if not video.sha256:
            return ClipError("missing", "the file could not be read when its crawl was ingested")
        try:
            return source.fetched(video.path, folder / f"{i}{posixpath.splitext(video.path)[1]}", limit)
        except ClipError as error:
            return error

    def on_disk() -> Iterator[Request]:
        for item, file in zip(requests, _ahead(fetch, range(len(requests))), strict=True):
            waiting.append(file)
            path = file if isinstance(file, Path) else folder / "none"
            yield Request(path, item.needs, item.video.sha256, item.video.n_bytes)

    with scratch("videos") as folder:
        for content in decoder.contents(on_disk()):
            file = waiting.popleft()
            yield content if isinstance(file, Path) else file
            if isinstance(file, Path) and file.is_relative_to(folder):
                file.unlink(missing_ok=True)


def _ahead(call: Callable[[int], R], numbers: Sequence[int]) -> Iterator[R]:
    """Yield results in order, computing some ahead of the consumer."""
    with ThreadPoolExecutor(FETCHED_AHEAD) as pool:
        calls = (pool.submit(call, number) for number in numbers)
        running = deque(islice(calls, FETCHED_AHEAD))
        while running:
            result = running.popleft().result()
            running.extend(islice(calls, 1))
            yield result


def _version(info: dict[str, Any]) -> int:
    """Return the change marker of an object store as a number of 63 bits."""
    markers = [
        str(info.get(key)) for key in ("ETag", "etag", "LastModified", "mtime", "updated", "last_modified", "created")
    ]
    return int(hashlib.sha256(" ".join(markers).encode()).hexdigest()[:15], 16)


def _is_sound(name: str, left_out: dict[str, list[str]]) -> bool:
    """Return whether an object store's key is usable; hidden ones and folders are left out silently, as on a disk."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts[:-1]) or parts[-1] in (".", ".."):
        left_out["keys that are not paths"].append(name)
        return False
    return bool(parts[-1]) and not any(part.startswith(".") for part in parts)
