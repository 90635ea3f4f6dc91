"""What one row of a manifest says of its video."""

import os
import posixpath
import re
from dataclasses import dataclass

from pipeline.columns import Field
from pipeline.crawl_files import CrawlFiles, examples, is_video_name, real_inside, stem
from pipeline.manifest_files import BadRow, composed, text_of
from pipeline.records import Entry, Split

_NOTHING = {"nan", "null", "none", "n/a", "na", "<na>"}  # how the usual writers spell an empty cell
_SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "0": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "1": "validation",
    "test": "test", "testing": "test", "eval": "test", "2": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a manifest that was understood."""

    entry: Entry
    found: bool
    """Whether the file is there."""


def understand(cells: dict[Field, object], files: CrawlFiles) -> Row:
    """Makes an entry of the cells of one row.

    Raises:
        BadRow: the path is missing, no file or leads out of the crawl; the id is empty; the split is unknown;
            or a cell is no text.
    """
    text: dict[Field, str | None] = {}
    for field, cell in cells.items():
        try:
            text[field] = text_of(_only(cell) if field == "path" else cell)
        except BadRow as error:
            raise BadRow(f"the {field} {error}") from error
    for field in ("path", "id"):
        if field in text and text[field] is None:
            raise BadRow(f"the {field} is empty")
    path, found = _located(text.get("path") or text.get("id") or "", files)
    entry = Entry(
        video_id=composed(text.get("id") or stem(path)),
        path=path,
        description=_composed_or_none(text.get("text")),
        venue=_venue(text.get("label")),
        split=_split(text.get("split")),
    )
    return Row(entry, found)


def _only(cell: object) -> object:
    """The one path of a list of paths, as data-juicer writes them."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def _located(named: str, files: CrawlFiles) -> tuple[str, bool]:
    """The path of the file a row names, as spelt on the disk, and whether it is there."""
    path = posixpath.normpath(named.replace("\\", "/"))
    if re.match(r"\w+:/", path):
        raise BadRow(f"the path {named!r} is an address or names a drive; expected a path in the crawl folder")
    if path.startswith("/"):
        raise BadRow(f"the path {named!r} is absolute; expected a path relative to the crawl folder")
    if path == ".." or path.startswith("../"):
        raise BadRow(f"the path {named!r} leads out of the crawl folder; expected a path inside it")
    if (known := files.find(path)) is not None:
        return known, True
    real = real_inside(files.root, path)
    if real is None:
        raise BadRow(f"the path {named!r} leads out of the crawl folder by a link; put the file itself there")
    if os.path.isfile(real):
        return path, True
    if os.path.exists(real):
        raise BadRow(f"the path {named!r} is not a file; expected a video file")
    if not is_video_name(path) and (matches := files.with_stem(path)):
        if len(matches) > 1:
            raise BadRow(f"{named!r} may be any of {examples(matches)}; name the file with its suffix")
        return matches[0], True
    return path, False


def _composed_or_none(text: str | None) -> str | None:
    return composed(text) if text else None


def _venue(text: str | None) -> str | None:
    return None if text is None or text.lower() in _NOTHING else composed(text)


def _split(text: str | None) -> Split | None:
    if text is None or text.lower() in _NOTHING:
        return None
    if text.lower() not in _SPLITS:
        raise BadRow(
            f"unknown split {text!r}; expected train, validation, test or nothing. If the column is not "
            f"a split: --set columns.split=''"
        )
    return _SPLITS[text.lower()]
