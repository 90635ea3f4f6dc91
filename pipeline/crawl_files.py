"""What lies in a crawl folder. A crawl is untrusted: nothing here leads out of its folder."""

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.errors import CrawlError
from pipeline.words import examples as examples  # for the other modules of crawls

VIDEO_SUFFIXES = (
    ".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SIDECAR_SUFFIXES = (".info.json", ".description")

_PARTIAL = re.compile(r"\.(part|ytdl|crdownload|download|part-frag\d+)$|\.(part|temp)\.\w+$", re.IGNORECASE)
_ID_IN_BRACKETS = re.compile(r"\[([^\[\]]+)\]$")  # yt-dlp names a file "title [id].mp4" unless told otherwise


def stem(path: str) -> str:
    """The last part of a path without its suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def is_video_name(path: str) -> bool:
    """Whether the suffix is one of a video file."""
    return posixpath.splitext(path)[1].lower() in VIDEO_SUFFIXES


def real_inside(root: Path, path: str) -> str | None:
    """Where `path` below `root`, a resolved folder, is when its links are followed; None if outside of it."""
    real = os.path.realpath(os.path.join(root, path))
    return real if real == str(root) or real.startswith(os.path.join(root, "")) else None


@dataclass(frozen=True)
class CrawlFiles:
    """The regular files of a crawl folder, hidden and half-downloaded ones left out.

    Paths are relative to `root`, with forward slashes, spelt as on the disk, sorted.
    """

    root: Path
    videos: tuple[str, ...]
    manifests: tuple[str, ...]
    """Files at the top of the folder that a manifest might be."""
    sidecars: tuple[str, ...]
    notes: tuple[str, ...]
    """What was left out and why."""

    def find(self, path: str) -> str | None:
        """The video at `path`, whichever way its accents are composed; None if there is none."""
        return path if path in self._exact else self._by_key.get(_key(path))

    def with_stem(self, name: str) -> list[str]:
        """The videos whose file name without suffix is `name`, or ends in `[name]`."""
        return self._by_stem.get(_key(name), [])

    def sidecar(self, video: str, suffix: str) -> str | None:
        """The sidecar of this suffix beside a video."""
        return self._sidecar_by_key.get(_key(posixpath.splitext(video)[0] + suffix))

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.videos)

    @cached_property
    def _by_key(self) -> dict[str, str]:
        return {_key(path): path for path in self.videos}

    @cached_property
    def _sidecar_by_key(self) -> dict[str, str]:
        return {_key(path): path for path in self.sidecars}

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.videos:
            name = _key(stem(path))
            found[name].append(path)
            if (bracketed := _ID_IN_BRACKETS.search(name)) is not None:
                found[bracketed[1]].append(path)
        return dict(found)


def list_files(folder: Path) -> CrawlFiles:
    """Looks through a crawl folder and the folders in it, without following links to folders.

    Raises:
        CrawlError: the folder is missing, is a file, cannot be read or is empty.
    """
    root = checked_root(folder)
    left_out: dict[str, list[str]] = defaultdict(list)
    return files_of(root, sorted(_walk(root, left_out)), left_out)


def files_of(root: Path, names: Sequence[str], left_out: Mapping[str, list[str]]) -> CrawlFiles:
    """The crawl at `root` that has these files, sorted; partial downloads among them are left out, too."""
    partial = [name for name in names if _PARTIAL.search(posixpath.basename(name))]
    if partial:
        left_out = {**left_out, "partial downloads": [*left_out.get("partial downloads", []), *partial]}
        names = [name for name in names if name not in set(partial)]
    return CrawlFiles(
        root=root,
        videos=tuple(name for name in names if is_video_name(name)),
        manifests=tuple(n for n in names if "/" not in n and n.lower().endswith(MANIFEST_SUFFIXES)),
        sidecars=tuple(name for name in names if name.endswith(SIDECAR_SUFFIXES)),
        notes=tuple(f"Left out {len(n):,} {what}: {examples(sorted(n))}." for what, n in left_out.items()),
    )


def checked_root(folder: Path) -> Path:
    """The resolved folder. Raises CrawlError where it is missing, a file, empty or cannot be read."""
    if os.path.isfile(folder):  # unlike Path.is_file, it does not raise where a parent cannot be read
        raise CrawlError(f"{folder} is a file. Give the crawl folder, the one that holds the videos.")
    if not os.path.isdir(folder):
        raise CrawlError(f"There is no folder {folder}. Give the crawl folder, the one that holds the videos.")
    root = folder.resolve()
    try:
        empty = next(root.iterdir(), None) is None
    except OSError as error:
        raise CrawlError(f"The crawl folder {folder} cannot be read: {error.strerror}.") from error
    if empty:
        raise CrawlError(f"The crawl folder {folder} is empty. Put videos there, or give another folder.")
    return root


def _walk(root: Path, left_out: dict[str, list[str]]) -> Iterator[str]:
    folders = [""]
    while folders:
        here = folders.pop()
        try:
            with os.scandir(root / here) as found:
                items = [item for item in found if not item.name.startswith(".")]
        except OSError:
            left_out["folders that cannot be read"].append(here)
            continue
        for item in items:
            path = posixpath.join(here, item.name)
            if item.is_dir(follow_symlinks=False):
                folders.append(path)
            elif (reason := _reason_to_leave_out(root, path, item)) is not None:
                left_out[reason].append(path.encode("utf-8", "replace").decode())
            elif item.is_file():
                yield path


def _reason_to_leave_out(root: Path, path: str, item: os.DirEntry[str]) -> str | None:
    if _PARTIAL.search(item.name):
        return "partial downloads"
    if not _is_unicode(path):
        return "files whose names are not valid UTF-8 (rename them to use them)"
    if not item.is_symlink():
        return None
    if real_inside(root, path) is None:
        return "links that lead out of the crawl folder (copy the files there to use them)"
    if os.path.isdir(item.path):
        return "links to folders, which are not followed"
    return None if os.path.isfile(item.path) else "links that lead nowhere"


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path.replace("\\", "/"))
