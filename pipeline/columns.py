"""Which column of a manifest holds what."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from pipeline.errors import CrawlError
from pipeline.words import examples

Field = Literal["path", "id", "text", "label", "split"]

NAMES: dict[Field, tuple[str, ...]] = {
    "path": (
        "video_path", "path", "file_path", "file", "file_name", "video_file", "video_filename", "video_loc",
        "clip_path", "video_name", "video", "videos", "clip", "feature",
    ),
    "id": ("video_id", "id", "clip_id", "uid", "uuid", "vid", "youtube_id", "key"),
    "text": ("description", "desc", "caption", "text", "title", "sentence"),
    "label": (
        "venue", "venue_category", "venue_name", "venue_label", "label", "category", "class", "class_name",
        "category_name", "label_name", "place",
    ),
    "split": ("split", "set", "subset", "partition", "mode", "fold"),
}  # fmt: skip
"""The names recognised for each field, first come first taken; case and separators do not count."""


@dataclass(frozen=True)
class ColumnSettings:
    """Names of manifest columns. None finds the column by its usual names; an empty name reads no column."""

    path: str | None = None
    text: str | None = None
    label: str | None = None
    id: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns taken from one manifest."""

    of: dict[Field, str]
    """Field to column name; a field without a column is not there."""
    notes: tuple[str, ...]


def is_known(name: str, settings: ColumnSettings) -> bool:
    """Whether a column of this name would be taken for some field."""
    return name in asdict(settings).values() or any(_plain(name) in _plain_names(field) for field in NAMES)


def recognise(found: Sequence[str], settings: ColumnSettings, manifest: str) -> Columns:
    """Takes one column for each field that has one.

    Args:
        found: the column names of the manifest.
        manifest: its file name, for messages.

    Raises:
        CrawlError: a column named in the settings is not there, is there twice, or none names the videos.
    """
    named = _named(found, settings, manifest)
    of = {field: name for field, name in named.items() if name}
    notes = []
    for field in get_args(Field):
        if field in named:
            continue
        candidates = _candidates(field, [name for name in found if name not in of.values()])
        if candidates:
            of[field] = candidates[0]
        if len(candidates) > 1:
            notes.append(
                f"{manifest}: {' and '.join(map(repr, candidates))} may both be the {field} column; "
                f"took {candidates[0]!r}. To take another: --set columns.{field}=NAME."
            )
    _check(of, found, manifest)
    taken = ", ".join(f"{field} from {name!r}" for field, name in of.items())
    return Columns(of, (f"Read {manifest}: {taken}.", *notes))


def _named(found: Sequence[str], settings: ColumnSettings, manifest: str) -> dict[Field, str]:
    named: dict[Field, str] = {}
    for field in get_args(Field):
        wish: str | None = getattr(settings, field)
        if not wish:
            if wish is not None:
                named[field] = ""
            continue
        matches = [name for name in found if name == wish] or [n for n in found if n.lower() == wish.lower()]
        if not matches:
            raise CrawlError(
                f"{manifest} has no column {wish!r}, which columns.{field} names. Its columns: {examples(found, 20)}."
            )
        named[field] = matches[0]
    return named


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
            f"{manifest} has no column that names the videos. {columns} Its first line must be a header; "
            f"name the column with the files `video_path`, or say which it is: --set columns.path=NAME. "
            f"If {manifest} is not the manifest of this crawl, move it elsewhere."
        )


def _plain_names(field: Field) -> list[str]:
    return [_plain(name) for name in NAMES[field]]


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name).casefold()
