"""Readers of manifest rows in all formats: comma or tab separated, JSON Lines, Parquet."""

import csv
import json
import reprlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from nmcl.pipeline.crawl.cells import BadRow, checked, composed, is_utf16
from nmcl.pipeline.crawl.columns import ColumnSettings, is_known
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.text import counted

if TYPE_CHECKING:
    import pyarrow as pa

N_SHOWN = 10
N_PARQUET_ROWS = 4096  # rows held at once
N_CHARACTERS_MAX = 1 << 22  # of one cell
N_LINES_MAX = 1000  # of one row, which bounds the cost of quotes that are never closed
N_CHARACTERS_KEPT = 1000  # of the path and id of a row that is listed as rejected
MAX_PARQUET_ROWS = 10_000_000  # some kilobytes may hold any number of equal rows
N_REJECTED_ALWAYS = 20  # rows that may be rejected whatever their share

Cells = tuple[int, list[object]]
"""Position of the row in the manifest's unit, from 1, and its cells in the requested order."""


@dataclass(frozen=True)
class RejectedRow:
    """Manifest row that cannot be used."""

    line: int
    """Line in the file, or row in a Parquet file, from 1."""
    problem: str
    """What was found and what was expected."""
    video_id: str | None = None
    path: str | None = None
    """Path as spelt in the row."""


class BadRows:
    """Collects the unusable rows of one manifest."""

    def __init__(self, manifest: str, unit: str) -> None:
        self.manifest = manifest
        self.unit = unit
        self.rows: list[RejectedRow] = []

    def add(self, number: int, problem: str, video_id: object = None, path: object = None) -> None:
        """Add an unusable row.

        Args:
            number: Line or row, from 1.
            problem: What was found and what was expected.
        """
        self.rows.append(RejectedRow(number, problem, _shown(video_id), _shown(path)))

    def check(self, n_rows: int, max_share: float) -> None:
        """Raise CrawlError with the first unusable rows if there are too many.

        Args:
            n_rows: Rows of the manifest, including the unusable ones.
            max_share: Share of rows that may be rejected. A few are always tolerated, unless all are unusable.
        """
        n = len(self.rows)
        if not n or (n < n_rows and (n <= N_REJECTED_ALWAYS or n <= max_share * n_rows)):
            return
        shown = [f"  {self.manifest}, {self.unit} {row.line}: {row.problem}" for row in self.rows[:N_SHOWN]]
        more = [f"  and {n - N_SHOWN:,} more"] if n > N_SHOWN else []
        do = "Correct or remove them, and run again."
        if n < n_rows:
            do = (
                f"These are {100 * n / n_rows:.3g} % of the rows; ingest.max_rejected_share allows "
                f"{100 * max_share:.3g} %. Correct or remove them, or skip them with --set ingest.max_rejected_share=1."
            )
        head = f"{self.manifest} has {counted(n, 'row')} that cannot be used:"
        raise CrawlError("\n".join([head, *shown, *more, do]))

    def notes(self, n_rows: int) -> Iterator[str]:
        """Yield a note with the number of unusable rows and the first of them."""
        if self.rows:
            first = "; ".join(f"{self.unit} {row.line}: {row.problem.rstrip('.')}" for row in self.rows[:3])
            yield (
                f"Skipped {counted(len(self.rows), 'row')} of the {n_rows:,} in {self.manifest} that cannot be used: "
                f"{first}{'; and so on.' if len(self.rows) > 3 else '' if first.endswith('?') else '.'}"
            )


def _shown(cell: object) -> str | None:
    """Return a cell of a rejected row as text that can be stored."""
    if cell is None or isinstance(cell, BadRow) or cell in ("", b""):
        return None
    text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell if isinstance(cell, str) else ""
    text = text or reprlib.repr(cell)
    return text[:N_CHARACTERS_KEPT].encode("utf-8", "replace").decode()


class ManifestFile(Protocol):
    """Manifest opened far enough to know its columns."""

    unit: str
    """How its rows are counted: `line` or `row`."""
    columns: tuple[str, ...]

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        """Yield the given columns of each row, a few rows at a time; unreadable rows are added to `bad`."""

    def kind(self, column: str) -> str:
        """Return what the column holds: `text`, also numbers and dates; `list` of these; else the name of its type."""
        return "text"


def open_manifest(path: Path, settings: ColumnSettings) -> ManifestFile:
    """Open a manifest by its suffix, one of `FORMATS`.

    Raises:
        CrawlError: If it has no header, is damaged, or its text is neither UTF-8 nor UTF-16.
    """
    return FORMATS[path.suffix.lower()](path, settings)


def _open_text(path: Path) -> IO[str]:
    with path.open("rb") as file:
        head = file.read(2)
    return path.open(encoding="utf-16" if is_utf16(head) else "utf-8-sig", errors="nmcl-marked", newline="")


class _Delimited(ManifestFile):
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
        """Return the names in the first row; none if it cannot be parsed with this delimiter."""
        with closing(self._records(delimiter)) as records:
            _, cells = next(records, (0, []))
        try:
            if isinstance(cells, BadRow):
                raise cells
            return tuple(composed(checked(name).strip("\ufeff \t\r\n")) for name in cells)
        except BadRow:
            return ()

    def _refuse(self) -> None:
        """Raise CrawlError with the reason why there is no header."""
        with closing(self._records(self._delimiter)) as records:
            number, cells = next(records, (0, []))
        try:
            if isinstance(cells, BadRow):
                raise cells
            checked("".join(cells))
        except BadRow as problem:
            raise CrawlError(
                f"{self._path.name} has no readable header: {self.unit} {number}: {problem}. "
                f"Expected column names, such as video_path,venue."
            ) from problem
        raise CrawlError(
            f"{self._path.name} is empty. Write a header, such as video_path,venue, and one row per video."
        )

    def _records(self, delimiter: str) -> Generator[tuple[int, list[str] | BadRow]]:
        """Yield non-blank rows with the line each begins on. After a bad row, parsing restarts at the next line."""
        csv.field_size_limit(max(csv.field_size_limit(), N_CHARACTERS_MAX))
        with _open_text(self._path) as file:
            lines = _Lines(file)
            while True:
                # Strict: otherwise an unclosed quote silently swallows the rest of the file.
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
                try:
                    for cells in reader:
                        number = lines.next_row()
                        if any(cell.strip() for cell in cells):
                            yield number, cells
                    return
                except csv.Error as error:
                    yield lines.skip_line(), BadRow(f"{error}. Is a quote not closed, or not doubled within quotes?")

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        wanted = [self.columns.index(name) for name in columns]
        n_columns = len(self.columns)
        for number, cells in islice(self._records(self._delimiter), 1, None):
            if isinstance(cells, BadRow):
                bad.add(number, str(cells))
            elif len(cells) == n_columns:
                yield number, [cells[i] for i in wanted]
            else:
                bad.add(number, f"{len(cells)} cells; the header has {n_columns}. Check quotes and separators.")


class _Lines:
    """Lines of a file; those of the current row can be read again."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self._start = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._row) >= N_LINES_MAX:
            raise csv.Error(f"more than {N_LINES_MAX:,} lines in a row")
        line = self._again.popleft() if self._again else next(self._file)
        self._row.append(line)
        return line

    def next_row(self) -> int:
        """Begin the next row and return the line on which the previous one began."""
        start, self._start = self._start, self._start + len(self._row)
        self._row.clear()
        return start

    def skip_line(self) -> int:
        """Give up the current row, begin another on its second line, and return the first line."""
        self._again.extendleft(reversed(self._row[1:]))
        del self._row[1:]
        return self.next_row()


class _JsonLines(ManifestFile):
    unit = "line"

    def __init__(self, path: Path, settings: ColumnSettings) -> None:
        self._path = path
        keys: dict[str, None] = {}
        bad = BadRows(path.name, self.unit)
        for _, found in self._objects(bad):
            keys.update(dict.fromkeys(found))
        self.columns = tuple(keys)
        if not keys:
            bad.check(len(bad.rows), 0)
            raise CrawlError(f'{path.name} has no rows. Write one object per line, such as {{"video_path": "a.mp4"}}.')

    def _objects(self, bad: BadRows) -> Iterator[tuple[int, dict[str, object]]]:
        with _open_text(self._path) as file:
            for number, line in enumerate(file, 1):
                if (found := _json_object(line, number, bad)) is not None:
                    yield number, found

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        for number, found in self._objects(bad):
            yield number, [found.get(name) for name in columns]


def _json_object(line: str, number: int, bad: BadRows) -> dict[str, object] | None:
    """Return the object on a line; None if the line is blank or bad."""
    if not line.strip():
        return None
    try:
        found = json.loads(checked(line).removeprefix("\ufeff"))  # left in the middle of concatenated files
    except json.JSONDecodeError as error:
        bad.add(number, f"is not valid JSON: {error.msg} at character {error.pos + 1}")
    except BadRow as error:
        bad.add(number, str(error))
    except RecursionError:
        bad.add(number, "is nested too deeply")
    except ValueError:
        bad.add(number, "has an integer of thousands of digits; store it as text")
    else:
        if isinstance(found, dict):
            return found
        bad.add(number, f"expected a JSON object, found {reprlib.repr(found)}")
    return None


class _Parquet(ManifestFile):
    unit = "row"

    def __init__(self, path: Path, settings: ColumnSettings) -> None:
        import pyarrow.parquet

        self._path = path
        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                self._schema = file.schema_arrow
                self.columns = tuple(self._schema.names)
                n_rows = file.metadata.num_rows
        except (pyarrow.ArrowException, OSError, ValueError) as error:  # names that are not UTF-8 raise ValueError
            raise self._damaged(error) from error
        if n_rows > MAX_PARQUET_ROWS:
            raise CrawlError(
                f"{path.name} has {n_rows:,} rows; expected at most {MAX_PARQUET_ROWS:,} per crawl. "
                "Split the crawl into several folders."
            )

    def _damaged(self, error: BaseException) -> CrawlError:
        return CrawlError(f"{self._path.name} cannot be read as Parquet: {error}. Write it again.")

    def kind(self, column: str) -> str:
        return _kind(self._schema.field(column).type)

    def rows(self, columns: Sequence[str], bad: BadRows) -> Iterator[Cells]:
        import pyarrow.parquet

        number = 1
        try:
            with pyarrow.parquet.ParquetFile(self._path) as file:
                for batch in file.iter_batches(N_PARQUET_ROWS, columns=list(columns)):
                    cells = [_cells(batch.column(name)) for name in columns]
                    yield from ((number + i, list(row)) for i, row in enumerate(zip(*cells, strict=True)))
                    number += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            raise self._damaged(error) from error


def _kind(type_: "pa.DataType") -> str:
    import pyarrow as pa
    import pyarrow.types as is_

    if isinstance(type_, pa.BaseExtensionType):
        return _kind(type_.storage_type)
    if is_.is_dictionary(type_) or is_.is_run_end_encoded(type_):
        return _kind(type_.value_type)
    lists = (is_.is_list, is_.is_large_list, is_.is_fixed_size_list, is_.is_list_view, is_.is_large_list_view)
    if any(is_list(type_) for is_list in lists):
        return "list" if _kind(type_.value_type) == "text" else str(type_)
    return str(type_) if is_.is_nested(type_) or is_.is_interval(type_) else "text"


def _cells(column: "pa.Array") -> list[object]:
    """Return the cells of a column as Python values; a BadRow for each that cannot be converted."""
    import pyarrow as pa

    if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        with suppress(pa.ArrowException):
            texts = column.cast(pa.string()).to_pylist()  # Python's dates have no nanoseconds and no year 10,000
            return [BadRow(f"is {text}") if text and text.startswith("<value out") else text for text in texts]
    try:
        found: list[object] = column.to_pylist()
    except (ValueError, ArithmeticError, LookupError, pa.ArrowException):
        return [_cell(value) for value in column]
    return found


def _cell(value: "pa.Scalar") -> object:
    import pyarrow as pa

    try:
        return value.as_py()
    except UnicodeDecodeError:
        return BadRow("is not valid UTF-8; save the manifest as UTF-8")
    except (ValueError, ArithmeticError, LookupError, pa.ArrowException) as error:
        return BadRow(f"is a {value.type} that cannot be read ({error}); store it as text")


FORMATS: dict[str, Callable[[Path, ColumnSettings], ManifestFile]] = {
    ".csv": _Delimited,
    ".tsv": _Delimited,
    ".jsonl": _JsonLines,
    ".parquet": _Parquet,
}
"""Readers by file suffix."""


def manifests_among(names: Iterable[str]) -> list[str]:
    """Return the files at the top of a crawl that may be its manifest, given relative paths."""
    return [name for name in names if "/" not in name and Path(name).suffix.lower() in FORMATS]
