"""Files of descriptions that belong to a feature file: one row per video, with its id, label and split if given."""

from dataclasses import dataclass
from pathlib import Path

from nmcl.pipeline.crawl.cells import BadRow, composed, prose_of, text_of
from nmcl.pipeline.crawl.columns import ColumnSettings, Field, column_of
from nmcl.pipeline.crawl.formats import FORMATS, BadRows, open_manifest
from nmcl.pipeline.crawl.rows import ABSENT, SPLIT_NAMES
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.text import examples

FIELDS: tuple[Field, ...] = ("text", "id", "label", "split")


@dataclass(frozen=True)
class TextRows:
    """Rows of a file of descriptions: lists with one item per row; None if there is no such column."""

    path: Path
    texts: list[str]
    """Empty where there is none."""
    ids: list[str] | None
    labels: list[str] | None
    """Empty where there is none."""
    splits: list[str] | None
    """`train`, `validation` or `test`; empty where there is none."""


def read_descriptions(path: Path) -> TextRows:
    """Read a file of descriptions, a `.csv`, `.tsv`, `.jsonl` or `.parquet` with the usual column names of manifests.

    Raises:
        CrawlError: If there is no such file or no column of descriptions, or a row cannot be used.
    """
    if path.suffix.lower() not in FORMATS:
        raise CrawlError(f"{path} is not a file of descriptions; expected one of {', '.join(FORMATS)}.")
    try:
        file = open_manifest(path, ColumnSettings())
        columns = {field: column for field in FIELDS if (column := column_of(field, file.columns))}
        if "text" not in columns:
            raise CrawlError(
                f"{path} has no column of descriptions; name it `description`. Its columns: {examples(file.columns)}."
            )
        bad = BadRows(path.name, file.unit)
        found: dict[Field, list[str]] = {field: [] for field in columns}
        for number, cells in file.rows(list(columns.values()), bad):
            for field, cell in zip(columns, cells, strict=True):
                try:
                    found[field].append(_parsed(field, cell))
                except BadRow as problem:
                    bad.add(number, f"the {field} {problem}")
    except OSError as error:
        raise CrawlError(f"{path} cannot be read: {error.strerror}.") from error
    if bad.rows:
        row = bad.rows[0]
        raise CrawlError(f"{path}, {file.unit} {row.line}: {row.problem}. Correct it: every row belongs to a video.")
    return TextRows(path, found["text"], found.get("id"), found.get("label"), found.get("split"))


def _parsed(field: Field, cell: object) -> str:
    if field == "id":
        return composed(text_of(cell) or "")
    text = prose_of(cell) or ""
    if text.lower() in ABSENT:
        return ""
    if field != "split" or not text:
        return text
    if text.lower() not in SPLIT_NAMES:
        raise BadRow(f"is {text!r}; expected train, validation, test or nothing")
    return SPLIT_NAMES[text.lower()]
