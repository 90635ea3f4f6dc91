"""Where a crawl lies: in a folder of this machine, or under a URL of an object store.

What lies elsewhere is fetched: the listing and the small files when it is read, each video shortly before it is
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
from nmcl.pipeline.media import Decoder, FrameSelector, Request
from nmcl.pipeline.records import Clip, Need, Video
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.storage.store import file_system, is_url, translated

R = TypeVar("R")
FETCHED_AHEAD = 4
"""Videos that are fetched while others are decoded."""


class CrawlSource(Protocol):
    """A crawl, wherever it lies. Paths are relative, with forward slashes."""

    address: str
    """How the catalogue names it: an absolute path, or a URL without a slash at the end."""
    name: str
    """The last part of the address."""

    @contextmanager
    def files(self) -> Iterator[CrawlFiles]:
        """What is in it; manifests and sidecars can be read below its `root` while the block runs.

        Raises:
            CrawlError: it is missing, cannot be read or is empty.
        """

    def exists(self) -> bool:
        """Whether anything is there: an empty folder is a disk that is not mounted."""

    def require(self) -> None:
        """Raises CrawlError unless anything is there, without reading all of it."""

    def stat(self, path: str) -> tuple[int, int] | None:
        """Bytes of a file, and a number that changes when it does; None where it cannot be read."""

    def open(self, path: str) -> BinaryIO:
        """A file, to be read once. Raises OSError."""

    def fetched(self, path: str, into: Path, limit: int) -> Path:
        """A file on this machine's disk: where it lies, else a copy at `into`.

        Raises:
            ClipError: it has more than `limit` bytes. A file that is not there is left to the decoder, which says so.
        """


def crawl_source(address: str | Path) -> CrawlSource:
    """The crawl at a path or URL, which need not be there."""
    return _Remote(str(address)) if is_url(str(address)) else _Local(Path(str(address).removeprefix("file://")))


class _Local:
    def __init__(self, folder: Path) -> None:
        self._given = folder
        self._folder = folder.resolve()
        self.address = str(self._folder)
        self.name = self._folder.name

    @contextmanager
    def files(self) -> Iterator[CrawlFiles]:
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
    """Opens a file, without waiting where a pipe has taken its place. Raises OSError where it is no regular one."""
    file = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return file


class _Remote:
    def __init__(self, url: str) -> None:
        self._fs, self._root = file_system(url)
        self.address = str(self._fs.unstrip_protocol(self._root))
        self.name = posixpath.basename(self._root)

    @contextmanager
    def files(self) -> Iterator[CrawlFiles]:
        left_out: dict[str, list[str]] = defaultdict(list)
        names = sorted(name for name in self._stats if _is_sound(name, left_out))
        if not self._stats:
            raise self._nothing()
        with scratch("crawl") as folder:
            files = files_of(folder / self.name, names, left_out)
            small = [*manifests_among(files.names), *files.sidecars]
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
        """Of every file, by its path."""
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
class Wanted:
    """A video that is to be decoded, and what is needed of it."""

    source: CrawlSource
    video: Video
    needs: frozenset[Need]


def require_root(crawl: str, source: CrawlSource) -> None:
    """Raises CrawlError where a crawl that was ingested is gone as a whole. Args: crawl: its name."""
    if not source.exists():
        raise CrawlError(
            f"The crawl {crawl} is no longer at {source.address}: moved away, or its disk is not mounted. Nothing was "
            f"recorded against its videos. Bring it back and run the same command again, or run `nmcl run` on the "
            f"folder where it is now."
        )


def clips_of(wanted: Sequence[Wanted], frames: FrameSelector, decoder: Decoder) -> Iterator[Clip | ClipError]:
    """Decode videos of crawls that lie anywhere, in order. See `nmcl.pipeline.media.Decoder.clips`.

    Each file must have the bytes that were ingested; else it is ClipError `changed`, and never a clip.
    """
    limit = decoder.settings.max_fetch_mb * 2**20
    waiting: deque[Path | ClipError] = deque()

    def fetch(i: int) -> Path | ClipError:
        source, video = wanted[i].source, wanted[i].video
        if not video.sha256:
            return ClipError("missing", "the file could not be read when its crawl was ingested")
        try:
            return source.fetched(video.path, folder / f"{i}{posixpath.splitext(video.path)[1]}", limit)
        except ClipError as error:
            return error

    def requests() -> Iterator[Request]:
        for item, file in zip(wanted, _ahead(fetch, range(len(wanted))), strict=True):
            waiting.append(file)
            yield Request(
                file if isinstance(file, Path) else folder / "none",
                frames if "frames" in item.needs else None,
                "waveform" in item.needs,
                item.video.sha256,
                item.video.n_bytes,
            )

    with scratch("videos") as folder:
        for clip in decoder.clips(requests()):
            file = waiting.popleft()
            yield clip if isinstance(file, Path) else file
            if isinstance(file, Path) and file.is_relative_to(folder):
                file.unlink(missing_ok=True)


def _ahead(call: Callable[[int], R], numbers: Sequence[int]) -> Iterator[R]:
    """Results in order, some being worked on while others are used."""
    with ThreadPoolExecutor(FETCHED_AHEAD) as pool:
        calls = (pool.submit(call, number) for number in numbers)
        running = deque(islice(calls, FETCHED_AHEAD))
        while running:
            result = running.popleft().result()
            running.extend(islice(calls, 1))
            yield result


def _version(info: dict[str, Any]) -> int:
    """What object stores tell of a change, as a number of 63 bits."""
    told = [
        str(info.get(key)) for key in ("ETag", "etag", "LastModified", "mtime", "updated", "last_modified", "created")
    ]
    return int(hashlib.sha256(" ".join(told).encode()).hexdigest()[:15], 16)


def _is_sound(name: str, left_out: dict[str, list[str]]) -> bool:
    """Keys of object stores may be anything; hidden ones and folders are left out silently, as on a disk."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts[:-1]) or parts[-1] in (".", ".."):
        left_out["keys that are no paths"].append(name)
        return False
    return bool(parts[-1]) and not any(part.startswith(".") for part in parts)
