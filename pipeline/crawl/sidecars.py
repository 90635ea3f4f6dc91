"""Readers of yt-dlp's sidecars, `<name>.info.json` and `<name>.description`. The only module that imports ijson.

An interrupted crawl leaves broken sidecars behind. They are noted; the video is still used.
"""

import codecs
import json
import math
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmcl.pipeline.crawl.cells import is_utf16, prose
from nmcl.pipeline.crawl.columns import ColumnSettings, Field
from nmcl.pipeline.crawl.files import ANIMATION_SUFFIXES, SIDECAR_SUFFIXES, CrawlFiles, examples
from nmcl.pipeline.crawl.rows import ABSENT
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.text import counted

N_BYTES_WHOLE = 32 * 2**20
"""Larger sidecars, those with many comments, are read as a stream."""
N_VALUES_MAX = 100_000
"""Maximum number of values under one key of a streamed sidecar; larger ones, such as comments, are left out."""
N_KEYS_SHOWN = 30
UNKNOWN = "\ufffd"
"""Character for bytes that are no text."""


@dataclass(frozen=True)
class Sidecar:
    """Content of a sidecar about its video; None for what it lacks."""

    video_id: str | None = None
    description: str | None = None
    venue: str | None = None


class SidecarReader:
    """Reader of the sidecars of one crawl, which records the unreadable ones.

    Args:
        columns: Its `id`, `text` and `label` may name keys, with dots within objects.
        absent: Words that mean that there is no text, in lower case.
    """

    def __init__(
        self, files: CrawlFiles, columns: ColumnSettings | None = None, absent: Collection[str] = ABSENT
    ) -> None:
        self._files = files
        self._columns = columns or ColumnSettings()
        self._absent = absent
        self._broken: list[str] = []
        self._garbled: list[str] = []
        self._keys: Counter[str] = Counter()
        self._n_with: Counter[str] = Counter()
        self.n_read = 0

    def videos(self) -> tuple[tuple[str, ...], list[str]]:
        """Return the videos of a crawl without a manifest, and the sound files and animations that no sidecar names.

        A sound file or an animation is a video if there is a sidecar, and no video, of the same name.
        """
        of_videos = {posixpath.splitext(path)[0] for path in self._files.videos}
        listed, others = [], []
        for path in self._files.on_request:
            if posixpath.splitext(path)[0] in of_videos:
                continue
            named = any(self._files.sidecar(path, suffix) for suffix in SIDECAR_SUFFIXES)
            if named and (not path.lower().endswith(ANIMATION_SUFFIXES) or self._is_animated(path)):
                listed.append(path)
            else:
                others.append(path)
        return tuple(sorted((*self._files.videos, *listed))), others

    def _is_animated(self, path: str) -> bool:
        """Return whether a picture is animated, by its first bytes or, if not on this machine, its sidecar.

        Otherwise it may be a thumbnail.
        """
        try:
            with (self._files.root / path).open("rb") as file:
                head = file.read(4096)
        except OSError:
            beside = self._files.sidecar(path, ".info.json")
            info = (_loaded(self._files.root / beside) if beside else None) or {}
            return f".{info.get('ext')}" == posixpath.splitext(path)[1].lower()
        if head.startswith(b"RIFF"):
            return head[12:16] == b"VP8X" and bool(head[20] & 2)
        return head.startswith(b"GIF8") and b"NETSCAPE2.0" in head

    def beside(self, video: str) -> Sidecar:
        """Return the content next to a video; an empty Sidecar if there is none."""
        if not self._files.sidecars:
            return Sidecar()
        info = self._info(video)
        columns = self._columns
        title = self._text(info.get("title"))
        if columns.text:
            description = self._texts(self._named(info, "text"), "\n") or title
        else:
            description = self._described(info, title)
        if columns.label:
            venue = self._texts(self._named(info, "label"), "|")
        else:
            venue = self._text(info.get("venue")) or self._text(info.get("location"))
        video_id = self._text(self._named(info, "id") if columns.id else info.get("id"))
        found = Sidecar(video_id, description or self._description_file(video), venue)
        if any(text and UNKNOWN in text for text in (found.video_id, found.description, found.venue)):
            self._garbled.append(video)
        return found

    def title(self, video: str) -> str | None:
        """Return the title next to a video."""
        return self._text(self._info(video).get("title"))

    def tags(self, video: str) -> str | None:
        """Return the tags next to a video, with commas between."""
        return self._texts(self._info(video).get("tags"), ", ")

    def require_keys(self, fields: Sequence[Field], columns: Sequence[str] = ()) -> None:
        """Raise CrawlError if a key named in the settings is in none of the sidecars that were read.

        Args:
            fields: Fields whose names in the settings must be keys.
            columns: Columns of the manifest, if there is one.
        """
        for field in fields:
            name = getattr(self._columns, field)
            if self._n_with[name] or not (self.n_read or columns):
                continue
            where = f"none of the {self.n_read:,} sidecars has a key {name!r}, the value of columns.{field}"
            if columns:
                known = examples(columns, N_KEYS_SHOWN)
                where = f"the manifest has no column {name!r}, and {where}. Its columns: {known}"
            shown = examples([key for key, _ in self._keys.most_common()], N_KEYS_SHOWN)
            raise CrawlError(
                f"{where[0].upper()}{where[1:]}. Keys of the sidecars: {shown or 'none'}. Use one of these."
            )

    def notes(self) -> tuple[str, ...]:
        """Return messages for the user about the sidecars read so far."""
        notes = []
        if self._broken:
            notes.append(
                f"{counted(len(self._broken), 'sidecar is', 'sidecars are')} not valid JSON and skipped: "
                f"{examples(self._broken)}. Download them again to use them."
            )
        if self._garbled:
            notes.append(
                f"{counted(len(self._garbled), 'video has', 'videos have')} a sidecar with bytes that are not UTF-8, "
                f"read as {UNKNOWN}: {examples(self._garbled)}. Save such sidecars as UTF-8."
            )
        return tuple(notes)

    def _info(self, video: str) -> dict[str, Any]:
        path = self._files.sidecar(video, ".info.json")
        if path is None:
            return {}
        info = _loaded(self._files.root / path)
        if info is None:
            self._broken.append(path)
            return {}
        self.n_read += 1
        if any((self._columns.id, self._columns.text, self._columns.label)):
            self._keys.update(key for key in info if len(self._keys) < 1000 or key in self._keys)
        return info

    def _named(self, info: dict[str, Any], field: Field) -> object:
        name: str = getattr(self._columns, field)
        value = info.get(name)
        for key in name.split(".") if name not in info else ():
            info = info.get(key) if isinstance(info, dict) else None  # type: ignore[assignment]
            value = info
        self._n_with[name] += value is not None
        return value

    def _described(self, info: dict[str, Any], title: str | None) -> str | None:
        """Return the description, else the title, plus the tags that are not in it yet."""
        text = self._text(info.get("description")) or title
        tags = info.get("tags")
        if not isinstance(tags, list):
            return text
        used = {word.rstrip(".,;:!?").casefold() for word in re.findall(r"#[^\s#]+", text or "")}
        words = [text] if text else []
        for tag in tags:
            word = "#" + re.sub(r"\s", "", _text(tag) or "").lstrip("#")
            if word != "#" and word.casefold() not in used:
                used.add(word.casefold())
                words.append(word)
        return " ".join(words) or None

    def _description_file(self, video: str) -> str | None:
        path = self._files.sidecar(video, ".description")
        if path is None:
            return None
        try:
            content = (self._files.root / path).read_bytes()
        except OSError:
            self._broken.append(path)
            return None
        return self._text(content.decode("utf-16" if is_utf16(content) else "utf-8-sig", "replace"))

    def _text(self, value: object) -> str | None:
        """Return a JSON value as text; None if it means nothing."""
        text = _text(value)
        return None if text is None or text.lower() in self._absent else text

    def _texts(self, value: object, between: str) -> str | None:
        """Return `_text` of a value; for a list, its distinct texts."""
        if not isinstance(value, list):
            return self._text(value)
        return between.join(dict.fromkeys(text for item in value if (text := self._text(item)))) or None


def _text(value: object) -> str | None:
    """Return a JSON value as text; a place may be an object with a name."""
    if isinstance(value, dict):
        value = value.get("name")
    if isinstance(value, float) and math.isfinite(value):
        value = int(value) if value.is_integer() and abs(value) <= 2**53 else str(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return prose(str(value).replace("\0", " ").encode("utf-8", "replace").decode())


def _loaded(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, parsed in time linear in its size; None if the file is none.

    A large file is read as a stream, and so is one nested too deeply for Python's own parser. Each parser is tried on
    what the other cannot read: the stream accepts no NaN.
    """
    try:
        n_bytes = path.stat().st_size
        ways = (_whole, _streamed) if n_bytes <= N_BYTES_WHOLE else (_streamed, _whole)
        for way in ways:
            try:
                return way(path)
            except (ValueError, RecursionError):
                continue
    except OSError:
        pass
    return None


def _whole(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    text = content.decode(json.detect_encoding(content), "replace").removeprefix("\ufeff")
    try:
        info = json.loads(text, strict=False)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an integer of thousands of digits
        info = json.loads(text, strict=False, parse_int=str)
    if not isinstance(info, dict):
        raise ValueError("no object")
    return info


def _streamed(path: Path) -> dict[str, Any]:
    """Return the object without values of more than N_VALUES_MAX numbers, texts and the like."""
    import ijson

    info: dict[str, Any] = {}
    with path.open("rb") as file:
        encoding = json.detect_encoding(file.read(4))
        file.seek(0)
        try:
            events = ijson.basic_parse(_Recoded(codecs.getreader(encoding)(file, "replace")), use_float=True)
            if next(events, None) != ("start_map", None):
                raise ValueError("no object")
            depth, key, builder, n_values = 1, "", ijson.ObjectBuilder(), 0
            for event, value in events:
                if event == "map_key" and depth == 1:
                    key, builder, n_values = value, ijson.ObjectBuilder(), 0
                    continue
                depth += event.startswith("start_") - event.startswith("end_")
                n_values += 1
                if n_values <= N_VALUES_MAX and depth:
                    builder.event(event, value)
                    if depth == 1:
                        info[key] = builder.value
        except ijson.JSONError as error:
            raise ValueError(str(error)) from error
    return info


class _Recoded:
    """UTF-8 file object over text, for a parser that accepts nothing else."""

    def __init__(self, text: codecs.StreamReader) -> None:
        self._text = text

    def read(self, n_bytes: int) -> bytes:
        return self._text.read(n_bytes).encode("utf-8", "replace")
