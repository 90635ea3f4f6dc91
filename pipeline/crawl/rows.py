"""Parsing of one manifest row."""

import os
import posixpath
import re
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

from nmcl.pipeline.crawl.cells import BadRow, composed, prose_of, text_of
from nmcl.pipeline.crawl.columns import Field
from nmcl.pipeline.crawl.files import CrawlFiles, examples, is_video_name, real_inside, stem
from nmcl.pipeline.records import Split

T = TypeVar("T")

ABSENT = ("nan", "-nan", "null", "none", "n/a", "na", "#n/a", "#na", "<na>", "nat", "\\n")
"""Common spellings of an empty cell."""

N_PATH_MAX = 4096  # bytes, the system limit for a path

SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "0": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "1": "validation",
    "test": "test", "testing": "test", "eval": "test", "2": "test",
}  # fmt: skip
"""Splits by their usual names, in lower case."""


class Row(NamedTuple):
    """Parsed manifest row."""

    video_id: str | None
    """None if there is no such column."""
    path: str
    """Path as on the disk, if the file exists."""
    named: str
    """Path as spelt in the row."""
    captions: tuple[str, ...]
    """Distinct captions, in order."""
    label: str | None
    split: Split | None
    found: bool
    """Whether the file exists."""
    is_alike: bool
    """Whether the file was found although its name differs in case or Unicode form."""


class Reader:
    """Parser of the manifest rows of one crawl.

    Args:
        absent: Words that mean an empty cell, in lower case.
    """

    def __init__(self, files: CrawlFiles, absent: Collection[str]) -> None:
        self._files = files
        self._absent = frozenset(absent)

    def parse(self, cells: dict[Field, object]) -> Row:
        """Parse the cells of one row.

        Raises:
            BadRow: If the path is missing, not a file or outside the crawl; the id is empty; the split is unknown;
                or a cell is not text.
        """
        path, video_id = self._name(cells, "path"), self._name(cells, "id")
        captions = self._captions(cells, "text") or self._captions(cells, "title")
        label, split = self._prose(cells, "label"), self._split(cells)
        named = path or video_id or ""
        found_path, found, is_alike = self._located(named)
        return Row(video_id and composed(video_id), found_path, named, captions, label, split, found, is_alike)

    def _name(self, cells: dict[Field, object], field: Field) -> str | None:
        """Return the path or the id; None without such a column."""
        if field not in cells:
            return None
        cell = cells[field]
        text = _converted(text_of, _only(cell) if field == "path" else cell, field)
        if text is None or (text.lower() in self._absent and not self._is_file(text)):
            raise BadRow(f"the {field} is empty" if text is None else f"the {field} is {text!r}, which means empty")
        return text

    def _is_file(self, name: str) -> bool:
        return self._files.find(name) is not None or bool(self._files.with_stem(name))

    def _captions(self, cells: dict[Field, object], field: Field) -> tuple[str, ...]:
        if (cell := cells.get(field)) is None:
            return ()
        texts = _converted(_proses_of, cell, field)
        return tuple(dict.fromkeys(text for text in texts if text and text.lower() not in self._absent))

    def _prose(self, cells: dict[Field, object], field: Field) -> str | None:
        if (cell := cells.get(field)) is None:
            return None
        text = _converted(prose_of, cell, field)
        return None if text is None or text.lower() in self._absent else text

    def _split(self, cells: dict[Field, object]) -> Split | None:
        text = self._prose(cells, "split")
        if text is None:
            return None
        text = re.sub(r"(?<=\d)\.0+$", "", text)  # numbers of a column with gaps, as pandas writes them
        if text.lower() not in SPLIT_NAMES:
            raise BadRow(
                f"unknown split {text!r}; expected train, validation, test or nothing. If the column is not "
                f"a split: --set columns.split=''"
            )
        return SPLIT_NAMES[text.lower()]

    def _located(self, named: str) -> tuple[str, bool, bool]:
        """Return the path of a named file as on the disk, whether it exists, and whether only by a similar name."""
        files = self._files
        path = posixpath.normpath(named.replace("\\", "/"))
        if re.match(r"\w+:/", path):
            raise BadRow(f"the path {_cut(named)} is a URL or has a drive letter; expected a path in the crawl folder")
        if path.startswith("/"):
            raise BadRow(f"the path {_cut(named)} is absolute; expected a path relative to the crawl folder")
        if path == ".." or path.startswith("../"):
            raise BadRow(f"the path {_cut(named)} is outside the crawl folder; expected a path inside it")
        if (known := files.find(path)) is not None:
            return known, True, False
        if len(path.encode()) > N_PATH_MAX:
            return path, False, False
        real = real_inside(files.root, path)
        if real is None:
            raise BadRow(
                f"the path {_cut(named)} is outside the crawl folder, through a link; put the file itself there"
            )
        if os.path.isfile(real):
            return path, True, False
        if os.path.exists(real):
            raise BadRow(f"the path {_cut(named)} is not a file; expected a video file")
        if len(alike := files.like(path)) > 1:
            raise BadRow(f"{_cut(named)} matches {examples(alike)}; use the exact spelling of the file")
        if alike:
            return alike[0], True, True
        of_stem = [] if is_video_name(path) else files.with_stem(path)
        if len(of_stem) > 1:
            raise BadRow(f"{_cut(named)} matches {examples(of_stem)}; add the suffix of the file")
        return (of_stem[0], True, path not in of_stem[0]) if of_stem else (path, False, False)


def _converted(convert: Callable[[object], T], cell: object, field: Field) -> T:
    """Convert a cell; raise BadRow with the name of the field."""
    try:
        return convert(cell)
    except BadRow as error:
        raise BadRow(f"the {field} {error}") from error


def _proses_of(cell: object) -> list[str | None]:
    return [prose_of(item) for item in (cell if isinstance(cell, list) else [cell])]


def _only(cell: object) -> object:
    """Return the only path of a list of paths, as data-juicer writes them."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell


def _cut(name: str) -> str:
    return repr(name if len(name) <= 200 else f"{name[:200]}...")


def default_id(path: str) -> str:
    """Return the id of a video that has none in the manifest or sidecars."""
    return composed(stem(path))
