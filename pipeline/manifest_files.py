"""The rows of a manifest file, whatever its format: comma or tab separated, JSON Lines, Parquet."""

import csv
import json
import math
import reprlib
import unicodedata
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, Protocol

from pipeline.columns import ColumnSettings, is_known
from pipeline.errors import CrawlError
from pipeline.words import counted

N_SHOWN = 10
N_PARQUET_ROWS = 4096  # rows held at once

Cells = tuple[int, list[object]]
"""Where the row is, in the manifest's unit and from 1, and its cells in the order asked for."""


class BadRow(ValueError):
    """One row cannot be used; the message says why."""


class BadRows:
    """Gathers what is wrong with the rows of one manifest, so that it is told at once."""

    def __init__(self, manifest: str, unit: str) -> None:
        self.manifest = manifest
        self.unit = unit
        self.n = 0
        self._shown: list[str] = []

    def add(self, number: int, problem: str) -> None:
        """Args: number: of the line or row, from 1; problem: what was found and what was expected."""
        self.n += 1
        if self.n <= N_SHOWN:
            self._shown.append(f"  {self.manifest}, {self.unit} {number}: {problem}")

    def raise_if_any(self) -> None:
        """Raises CrawlError with the first of them, if there is one."""
        if not self.n:
            return
        more = [f"  and {self.n - N_SHOWN:,} more"] if self.n > N_SHOWN else []
        head = f"{self.manifest} has {counted(self.n, 'row')} that cannot be used:"
        raise CrawlError("\n".join([head, *self._shown, *more, "Correct or remove them, and run again."]))


class ManifestFile(Protocol):
    """A manifest that was opened far enough to know its columns."""

    unit: str
    """How its rows are counted: `line` or `row`."""
    columns: tuple[str, ...]

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        """Yields the given columns of each row, a few rows at a time; unreadable rows go to `bad`."""


def open_manifest(path: Path, settings: ColumnSettings) -> ManifestFile:
    """Opens a manifest by its suffix.

    Raises:
        CrawlError: it has no header, is damaged, or its text is neither UTF-8 nor UTF-16.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _Parquet(path)
    return _JsonLines(path) if suffix == ".jsonl" else _Delimited(path, settings)


def text_of(cell: object) -> str | None:
    """A cell as text: stripped, None if there is nothing in it. Whole numbers lose their `.0`.

    Raises:
        BadRow: the cell is a list or an object, or is not valid text.
    """
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, float) and cell.is_integer():
        if abs(cell) > 2**53:
            raise BadRow(f"is {cell}, a floating-point number that has lost digits; store it as text")
        cell = int(cell)
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "surrogateescape")
    if not isinstance(cell, str | int | float):
        raise BadRow(f"is {reprlib.repr(cell)}, a {type(cell).__name__}; expected text")
    return _checked(str(cell)).strip() or None


def composed(text: str) -> str:
    """Text in Unicode's composed form (NFC), so that equal letters are equal."""
    return unicodedata.normalize("NFC", text)


def _checked(text: str) -> str:
    if "\0" in text:
        raise BadRow("contains a NUL byte; remove it, or save the manifest as UTF-8")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise BadRow("is not valid UTF-8; save the manifest as UTF-8") from error
    return text


def _open_text(path: Path) -> IO[str]:
    with path.open("rb") as file:
        utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    if utf16:
        return path.open(encoding="utf-16", newline="")
    # Wrong bytes become lone surrogates, so that `_checked` can tell in which row they are.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Delimited:
    unit = "line"

    def __init__(self, path: Path, settings: ColumnSettings) -> None:
        self._path = path
        comma_or = ",;\t|" if path.suffix.lower() == ".csv" else "\t"
        headers = {delimiter: self._header(delimiter) for delimiter in comma_or}

        def fits(delimiter: str) -> tuple[int, int]:
            names = headers[delimiter]
            return sum(is_known(name, settings) for name in names), len(names)

        self._delimiter = max(headers, key=fits)
        self.columns = headers[self._delimiter]
        if not self.columns:
            self._refuse()

    def _header(self, delimiter: str) -> tuple[str, ...]:
        """The names in the first row; none if it cannot be read so."""
        with closing(self._records(delimiter, BadRows(self._path.name, self.unit))) as records:
            _, cells = next(records, (0, []))
        try:
            return tuple(composed(_checked(name).strip()) for name in cells)
        except BadRow:
            return ()

    def _refuse(self) -> None:
        """Raises CrawlError, saying why there is no header."""
        bad = BadRows(self._path.name, self.unit)
        for number, cells in self._records(self._delimiter, bad):
            try:
                _checked("".join(cells))
            except BadRow as error:
                bad.add(number, str(error))
            break
        bad.raise_if_any()
        raise CrawlError(
            f"{self._path.name} is empty. Write a header, such as video_path,venue, and a row for each video."
        )

    def _records(self, delimiter: str, bad: BadRows) -> Generator[tuple[int, list[str]]]:
        start = 1
        with _open_text(self._path) as file:
            # Strict: otherwise a quote that is never closed swallows the rest of the file unseen.
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield start, cells
                    start = reader.line_num + 1
            except csv.Error as error:
                bad.add(
                    start,
                    f"{error}. Is a quote not closed, or not doubled within quotes? Reading stopped here",
                )
            except UnicodeDecodeError as error:
                bad.add(start, f"is not valid {error.encoding}. Reading stopped here")

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        wanted = [self.columns.index(name) for name in columns]
        n_columns = len(self.columns)
        for number, cells in islice(self._records(self._delimiter, bad), 1, None):
            if len(cells) == n_columns:
                yield number, [cells[i] for i in wanted]
            else:
                bad.add(number, f"{len(cells)} cells; the header has {n_columns}. Is a quote or separator amiss?")


class _JsonLines:
    unit = "line"

    def __init__(self, path: Path) -> None:
        self._path = path
        keys: dict[str, None] = {}
        for _, found in self._objects(BadRows(path.name, self.unit)):
            keys.update(dict.fromkeys(found))
        self.columns = tuple(keys)
        if not keys:
            bad = BadRows(path.name, self.unit)
            for _ in self._objects(bad):
                pass
            bad.raise_if_any()
            raise CrawlError(f'{path.name} has no rows. Write one object a line, such as {{"video_path": "a.mp4"}}.')

    def _objects(self, bad: BadRows) -> Iterator[tuple[int, dict[str, object]]]:
        number = 0
        with _open_text(self._path) as file:
            try:
                for number, line in enumerate(file, 1):
                    if (found := _json_object(line, number, bad)) is not None:
                        yield number, found
            except UnicodeDecodeError as error:
                bad.add(number + 1, f"is not valid {error.encoding}. Reading stopped here")

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        for number, found in self._objects(bad):
            yield number, [found.get(name) for name in columns]


def _json_object(line: str, number: int, bad: BadRows) -> dict[str, object] | None:
    """The object on a line; None if the line is blank or bad."""
    if not line.strip():
        return None
    try:
        found = json.loads(_checked(line))
    except json.JSONDecodeError as error:
        bad.add(number, f"is not valid JSON: {error.msg} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:  # bad text, a number too long, or nested too deeply
        bad.add(number, str(error))
    else:
        if isinstance(found, dict):
            return found
        bad.add(number, f"expected a JSON object, found {reprlib.repr(found)}")
    return None


class _Parquet:
    unit = "row"

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self._path = path
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                self.columns = tuple(file.schema_arrow.names)
        except (pyarrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> CrawlError:
        return CrawlError(f"{self._path.name} cannot be read as Parquet: {error}. Write it again.")

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        import pyarrow.parquet

        number = 1
        try:
            with pyarrow.parquet.ParquetFile(self._path) as file:
                for batch in file.iter_batches(N_PARQUET_ROWS, columns=list(columns)):
                    cells = [batch.column(name).to_pylist() for name in columns]
                    yield from ((number + i, list(row)) for i, row in enumerate(zip(*cells, strict=True)))
                    number += batch.num_rows
        except UnicodeDecodeError:
            bad.add(number, f"this row or one of the {N_PARQUET_ROWS} after it is not valid UTF-8")
        except (pyarrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error
