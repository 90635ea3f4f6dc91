"""Recognition of manifest columns."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.text import examples

Field = Literal["path", "id", "text", "title", "label", "split"]

NAMES: dict[Field, tuple[str, ...]] = {
    "path": (
        "video_path", "path", "file_path", "file", "file_name", "video_file", "video_filename", "video_loc",
        "clip_path", "video_name", "video", "videos", "clip", "feature",
    ),
    "id": ("video_id", "id", "clip_id", "uid", "uuid", "vid", "youtube_id", "key"),
    "text": ("description", "desc", "caption", "captions", "text", "sentence", "sentences", "title"),
    "title": ("title", "video_title", "full_title"),
    "label": (
        "venue", "venue_category", "venue_name", "venue_label", "label", "category", "class", "class_name",
        "category_name", "label_name", "place",
    ),
    "split": ("split", "set", "subset", "partition", "mode", "fold"),
}  # fmt: skip
"""Recognised names of each field, in order of preference; case and separators are ignored."""

TAG_NAMES = ("tags", "hashtags", "keywords")
"""Recognised names of the column of tags, which only feature sets with `text = "tags"` read."""

SIDECAR_FIELDS: tuple[Field, ...] = ("id", "text", "label")
"""Fields whose setting may name a sidecar key."""


@dataclass(frozen=True)
class ColumnSettings:
    """Frozen names of manifest columns. None finds the column by its usual names; an empty name reads no column.

    `text`, `label` and `id` may also name a key of sidecars, with dots within objects (`location.name`).
    """

    path: str | None = None
    """Path of the video file, relative to the crawl."""
    text: str | None = None
    """Description. May also name a sidecar key, with dots for nested objects: `location.name`."""
    title: str | None = None
    """Used if the text is empty, and by feature sets with `text = "title"`."""
    tags: str | None = None
    """Used by feature sets with `text = "tags"`."""
    label: str | None = None
    """Label (venue). May also name a sidecar key."""
    id: str | None = None
    """Video id. May also name a sidecar key."""
    split: str | None = None
    """The crawl's own split."""


@dataclass(frozen=True)
class Columns:
    """Columns selected from one manifest."""

    of: dict[Field, str]
    """Field to column name; fields without a column are left out."""
    elsewhere: tuple[Field, ...]
    """Fields whose configured name is no column, and so may be a key of sidecars."""
    notes: tuple[str, ...]


def is_known(name: str, settings: ColumnSettings) -> bool:
    """Return whether a column of this name would be used for some field."""
    named = [getattr(settings, field) for field in NAMES]
    return name in named or any(_plain(name) in _plain_names(field) for field in NAMES)


def recognise(found: Sequence[str], settings: ColumnSettings, manifest: str, has_sidecars: bool = False) -> Columns:
    """Select one column for each field that has one.

    Args:
        found: The column names of the manifest.
        manifest: Its file name, for messages.
        has_sidecars: Whether configured names that are no columns may be keys of sidecars.

    Raises:
        CrawlError: If a column named in the settings is absent or duplicated, or no column identifies the videos.
    """
    named = {field: _column(getattr(settings, field), found) for field in get_args(Field) if getattr(settings, field)}
    absent = [field for field, name in named.items() if name is None]
    elsewhere = tuple(field for field in absent if has_sidecars and field in SIDECAR_FIELDS)
    for field in absent:
        if field not in elsewhere:
            raise CrawlError(
                f"{manifest} has no column {getattr(settings, field)!r}, the value of columns.{field}. "
                f"Its columns: {examples(found, 20)}."
            )
    of: dict[Field, str] = {field: name for field, name in named.items() if name is not None}
    notes, titles = [], _plain_names("title")
    for field in get_args(Field):
        if getattr(settings, field) is not None:  # named, or disabled
            continue
        if field == "title" and "text" not in of:
            continue
        candidates = _candidates(field, [name for name in found if name not in of.values()])
        if candidates:
            of[field] = candidates[0]
        rivals = [name for name in candidates if field != "text" or _plain(name) not in titles]
        if len(rivals) > 1 and field != "title":
            notes.append(
                f"{manifest}: {' and '.join(map(repr, rivals))} may both be the {field} column; "
                f"using {rivals[0]!r}. To use another: --set columns.{field}=NAME."
            )
    _check(of, found, manifest)
    taken = ", ".join(f"{field} from {name!r}" for field, name in of.items())
    return Columns(of, elsewhere, (f"Read {manifest}: {taken}.", *notes))


def _column(wanted: str, found: Sequence[str]) -> str | None:
    matches = [name for name in found if name == wanted] or [n for n in found if n.lower() == wanted.lower()]
    return matches[0] if matches else None


def column_of(field: Field, found: Sequence[str]) -> str | None:
    """Return the column of a field by its usual names, if there is one."""
    return next(iter(_candidates(field, found)), None)


def _candidates(field: Field, found: Sequence[str]) -> list[str]:
    order = _plain_names(field)
    known = [name for name in dict.fromkeys(found) if _plain(name) in order]
    return sorted(known, key=lambda name: order.index(_plain(name)))


def _check(of: dict[Field, str], found: Sequence[str], manifest: str) -> None:
    columns = f"Its columns: {examples(found, 20)}."
    for name in of.values():
        if found.count(name) > 1:
            raise CrawlError(f"{manifest} has {found.count(name)} columns named {name!r}; rename one. {columns}")
    if "path" not in of and "id" not in of:
        raise CrawlError(
            f"{manifest} has no column that identifies the videos. {columns} Its first line must be a header; "
            f"rename the column with the files to `video_path`, or select it: --set columns.path=NAME. "
            f"If {manifest} is not the manifest of this crawl, move it elsewhere."
        )


def text_column(source: Literal["title", "tags"], found: Sequence[str], settings: ColumnSettings) -> str | None:
    """Return the column of titles or tags among the columns of a manifest; None if there is none.

    Raises:
        CrawlError: If the settings name a column that does not exist.
    """
    wish: str | None = getattr(settings, source)
    if wish is None:
        order = [_plain(name) for name in (NAMES["title"] if source == "title" else TAG_NAMES)]
        known = [name for name in found if _plain(name) in order]
        return min(known, key=lambda name: order.index(_plain(name)), default=None)
    column = _column(wish, found) if wish else None
    if wish and column is None:
        raise CrawlError(
            f"The manifest has no column {wish!r}, the value of columns.{source}. Its columns: {examples(found, 20)}."
        )
    return column


@cache
def _plain_names(field: Field) -> list[str]:
    return [_plain(name) for name in NAMES[field]]


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).casefold()
