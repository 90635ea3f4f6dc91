"""Listing of a crawl folder. A crawl is untrusted input: nothing here reads outside its folder."""

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.text import examples as examples  # for the other modules of crawls

VIDEO_SUFFIXES = (
    ".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
SOUND_SUFFIXES = (
    ".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".eac3", ".flac", ".m4a", ".mka", ".mp2", ".mp3", ".oga", ".ogg",
    ".opus", ".wav", ".weba", ".wma",
)  # fmt: skip
ANIMATION_SUFFIXES = (".gif", ".webp")
SIDECAR_SUFFIXES = (".info.json", ".description")
SUBTITLE_SUFFIXES = (".vtt", ".srt")

_PARTIAL = re.compile(r"\.(part|ytdl|crdownload|download|part-frag\d+)$|\.(part|temp)\.\w+$", re.IGNORECASE)
_INTERMEDIATE = re.compile(
    r"^(?P<stem>.+)\.f(\d[\w-]*|(hls|dash|https?|rtmp|mss|fallback|h26[45]|bytevc\d)[\w-]*)\.\w+$", re.IGNORECASE
)
"""Names that yt-dlp gives to the streams it merges: `title.f137.mp4`, `title.fhls-1080.mp4`."""
_LANGUAGE = re.compile(r"\.[A-Za-z][\w-]{0,39}")  # `.en`, `.en-orig`, `.zh-Hans`
_ID_IN_BRACKETS = re.compile(r"\[([^\[\]]+)\]$")  # yt-dlp names a file "title [id].mp4" by default


def stem(path: str) -> str:
    """Return the last part of a path without its suffix."""
    return posixpath.splitext(posixpath.basename(path))[0]


def is_video_name(path: str) -> bool:
    """Return whether the suffix is one of a video file."""
    return posixpath.splitext(path)[1].lower() in VIDEO_SUFFIXES


def unmerged_stem(path: str) -> str | None:
    """Return `in/title` for `in/title.f137.mp4`, yt-dlp's name of one stream of a video; None for other names."""
    if ".f" not in path.lower():
        return None
    folder, name = posixpath.split(path)
    match = _INTERMEDIATE.match(name)
    return posixpath.join(folder, match["stem"]) if match else None


def real_inside(root: Path, path: str) -> str | None:
    """Resolve the links of `path` below `root`, a resolved folder; return None if it leads outside."""
    real = os.path.realpath(os.path.join(root, path))
    return real if real == str(root) or real.startswith(os.path.join(root, "")) else None


@dataclass(frozen=True)
class CrawlFiles:
    """Regular files of a crawl folder, without hidden ones.

    Paths are relative to `root`, with forward slashes, spelt as on the disk, sorted.
    """

    root: Path
    names: tuple[str, ...]
    """All files, without partial downloads."""
    videos: tuple[str, ...]
    """Files that count as videos even if no manifest or sidecar names them."""
    on_request: tuple[str, ...]
    """Sound files, and images that may be animated: they count as videos if a manifest or a sidecar names them."""
    left_out: Mapping[str, Sequence[str]]
    """Files that are not used unless a manifest names them, by reason."""

    def notes(self, named: Collection[str] = ()) -> Iterator[str]:
        """Yield messages about skipped files.

        Args:
            named: Files that a manifest names, which are used whatever their kind.
        """
        for reason, names in self.left_out.items():
            if skipped := sorted(set(names).difference(named)):
                yield f"Skipped {reason} ({len(skipped):,}): {examples(skipped)}."

    @cached_property
    def sidecars(self) -> tuple[str, ...]:
        """Files that yt-dlp writes next to a video."""
        return tuple(name for name in self.names if name.endswith(SIDECAR_SUFFIXES))

    def find(self, path: str) -> str | None:
        """Return the file at exactly `path`; None if there is none."""
        return path if path in self._exact else None

    def like(self, path: str) -> list[str]:
        """Return files whose path differs from `path` in Unicode form only; if none, those in form and case only."""
        return self._by_form.get(_form(path)) or self._by_letters.get(_letters(path)) or []

    def with_stem(self, name: str) -> list[str]:
        """Return the videos whose file name without suffix is `name`, or ends in `[name]`.

        If there is none, sound files, then animations; then the same with `name` in another case.
        """
        for key in (_form, _letters):
            for kind in self._by_stem[key]:
                if found := kind.get(key(name)):
                    return found
        return []

    def sidecar(self, video: str, suffix: str) -> str | None:
        """Return the sidecar of this suffix next to a video; for one stream of a video, that of the whole video."""
        path = posixpath.splitext(video)[0] + suffix
        if path in self._exact:
            return path
        if not path.isascii() and (alike := self._by_form.get(_form(path))):
            return alike[0]
        whole = unmerged_stem(video)
        return whole + suffix if whole and whole + suffix in self._exact else None

    def subtitles(self, video: str) -> list[tuple[str, str]]:
        """Return the language and path of each subtitle file next to a video; the language is empty if not named.

        Their names are `NAME.vtt` and `NAME.LANG.vtt` for the video `NAME.mp4`, and the same with `.srt`.
        """
        names = (posixpath.splitext(video)[0], unmerged_stem(video))
        found = (self._subtitles.get(_form(name), []) for name in names if name)
        return next(filter(None, found), [])

    @cached_property
    def _subtitles(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for path in self.names:
            if not path.lower().endswith(SUBTITLE_SUFFIXES):
                continue
            name, _ = posixpath.splitext(path)
            found[_form(name)].append(("", path))
            whole, language = posixpath.splitext(name)
            if _LANGUAGE.fullmatch(language):
                found[_form(whole)].append((language[1:], path))
        return dict(found)

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _by_form(self) -> dict[str, list[str]]:
        return _grouped((_form(name), name) for name in self.names)

    @cached_property
    def _by_letters(self) -> dict[str, list[str]]:
        return _grouped((_letters(name), name) for name in self.names)

    @cached_property
    def _by_stem(self) -> dict[Callable[[str], str], list[dict[str, list[str]]]]:
        sounds = [name for name in self.on_request if name.lower().endswith(SOUND_SUFFIXES)]
        animations = [name for name in self.on_request if name.lower().endswith(ANIMATION_SUFFIXES)]
        kinds = (self.videos, sounds, animations)
        return {key: [_grouped(_by_stem(kind, key)) for kind in kinds] for key in (_form, _letters)}


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, path in pairs:
        found[key].append(path)
    return dict(found)


def _by_stem(paths: Iterable[str], key: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        name = key(stem(path))
        yield name, path
        if (bracketed := _ID_IN_BRACKETS.search(name)) is not None:
            yield bracketed[1], path


def list_files(folder: Path) -> CrawlFiles:
    """List a crawl folder recursively, without following links to folders.

    Raises:
        CrawlError: If the folder is missing, is a file, cannot be read or is empty.
    """
    root = checked_root(folder)
    left_out: dict[str, list[str]] = defaultdict(list)
    return files_of(root, sorted(_walk(root, left_out)), left_out)


def files_of(root: Path, names: Sequence[str], left_out: Mapping[str, list[str]]) -> CrawlFiles:
    """Return the crawl at `root` that has these files, sorted and without partial downloads."""
    left_out = {reason: list(paths) for reason, paths in left_out.items()}
    partial = {name for name in names if _PARTIAL.search(posixpath.basename(name))}
    kept = tuple(name for name in names if name not in partial)
    videos = [name for name in kept if is_video_name(name)]
    whole = {posixpath.splitext(name)[0] for name in videos}
    media = (name for name in kept if name.lower().endswith(VIDEO_SUFFIXES + SOUND_SUFFIXES))
    streams = {name for name in media if unmerged_stem(name) in whole}
    for reason, found in (("partial downloads", partial), ("streams that yt-dlp has merged", streams)):
        if found:
            left_out[reason] = [*left_out.get(reason, []), *found]
    return CrawlFiles(
        root=root,
        names=kept,
        videos=tuple(name for name in videos if name not in streams),
        on_request=tuple(
            name for name in kept if name.lower().endswith(SOUND_SUFFIXES + ANIMATION_SUFFIXES) and name not in streams
        ),
        left_out=left_out,
    )


def checked_root(folder: Path) -> Path:
    """Return the resolved folder; raise CrawlError if it is missing, a file, empty or cannot be read."""
    if os.path.isfile(folder):  # unlike Path.is_file, does not raise if a parent cannot be read
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
            if _is_folder(item):
                folders.append(path)
            elif (reason := _reason_to_leave_out(root, path, item)) is not None:
                left_out[reason].append(path.encode("utf-8", "replace").decode())
            else:
                yield path


def _reason_to_leave_out(root: Path, path: str, item: os.DirEntry[str]) -> str | None:
    if _PARTIAL.search(item.name):
        return "partial downloads"
    if not _is_unicode(path):
        return "files whose names are not valid UTF-8 (rename them to use them)"
    if item.is_symlink():
        if real_inside(root, path) is None:
            return "links that point outside the crawl folder (copy the files there to use them)"
        if os.path.isdir(item.path):
            return "links to folders, which are not followed"
        if not os.path.exists(item.path):
            return "broken links"
    return None if _is_regular(item) else "pipes, sockets and devices"


def _is_regular(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_file()
    except OSError:
        return False


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir(follow_symlinks=False)
    except OSError:  # some file systems only report it when asked
        return False


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _form(path: str) -> str:
    """Return the path in one Unicode form."""
    return unicodedata.normalize("NFC", path.replace("\\", "/"))


def _letters(path: str) -> str:
    """Return the path without regard to case and Unicode form."""
    if path.isascii():
        return path.replace("\\", "/").casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold()).replace("\\", "/")
