"""Tables as Markdown for readers and as CSV for programs, from the same cells."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nmcl.flows.report import numbers as text
from nmcl.model.study.results import Spread
from nmcl.pipeline.escape import csv_text, markdown_text

Kind = Literal["text", "spread", "share", "points", "decimal", "p_value", "seconds", "count"]
"""Kind of the values in a column.

`spread` is a measure over seeds and `share` a number, both 0..1 and shown in per cent; `points` is a difference of
shares.
"""
Cell = str | float | Spread | None


@dataclass(frozen=True)
class Column:
    """A column with its title for readers and its key for programs."""

    title: str
    key: str
    kind: Kind
    marks_best: bool = False
    """Whether the highest value is bold."""


@dataclass(frozen=True)
class Shown:
    """A cell as displayed to a reader."""

    text: str
    is_best: bool
    is_number: bool


@dataclass(frozen=True)
class Table:
    """A table with one cell per row and column; the first column names the row."""

    name: str
    """Name of its file, without suffix."""
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def shown(self) -> Iterator[list[Shown]]:
        """Yield the rows as text, not escaped."""
        best = [self._best(i) for i in range(len(self.columns))]
        for row in self.rows:
            yield [
                Shown(
                    as_text(cell, column.kind),
                    value is not None and _comparable(cell) == value,
                    column.kind != "text",
                )
                for cell, column, value in zip(row, self.columns, best, strict=True)
            ]

    def _best(self, i: int) -> float | None:
        if not self.columns[i].marks_best or len(self.rows) < 2:
            return None
        values = [value for row in self.rows if (value := _comparable(row[i])) is not None]
        return max(values, default=None)

    def markdown(self) -> str:
        """Return the table in GitHub's Markdown dialect; markup within names is escaped."""
        lines = [
            [markdown_text(column.title) for column in self.columns],
            ["---:" if column.kind != "text" else "---" for column in self.columns],
            *(
                [f"**{markdown_text(c.text)}**" if c.is_best else markdown_text(c.text) for c in row]
                for row in self.shown()
            ),
        ]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"{markdown_text(self.caption)}\n\n{body}\n"

    def csv(self) -> str:
        """Return the table as comma-separated values with a header.

        Numbers are unformatted: shares 0..1, seconds, and empty for None.
        """
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([csv_text(_one_line(key)) for column in self.columns for key in _keys(column)])
        for row in self.rows:
            pairs = zip(row, self.columns, strict=True)
            writer.writerow([value for cell, column in pairs for value in _raw(cell, column)])
        return file.getvalue()


def as_text(cell: Cell, kind: Kind) -> str:
    """Return the displayed text of a cell: `40.04±0.37` for a spread, a dash for None."""
    if isinstance(cell, str):
        return _one_line(cell)
    if isinstance(cell, Spread):
        mean, std = as_text(cell.mean, "share"), text.finite(cell.std)
        return mean if mean == text.DASH or std is None else f"{mean}±{100 * std:.2f}"
    if cell is None or text.finite(cell) is None:
        return text.DASH
    match kind:
        case "share":
            return f"{100 * cell:.2f}"
        case "points":
            return f"{100 * cell:+.2f}".replace("-", "\N{MINUS SIGN}")
        case "p_value":
            return _p_value(cell)
        case "seconds":
            return text.seconds(cell)
        case "count":
            return text.count(int(cell))
        case _:
            return text.decimal(cell)


def _p_value(value: float) -> str:
    """Format a p-value: 0.0123 -> 0.012, 1.31e-08 -> 1.31e-8."""
    if value >= 0.001 or value == 0:
        return f"{value:.3f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _comparable(cell: Cell) -> float | None:
    """Return the value rounded to the displayed digits, so that values that look equal are equal."""
    value = cell.mean if isinstance(cell, Spread) else cell
    value = None if isinstance(value, str) else text.finite(value)
    return None if value is None else round(value, 4)


def _one_line(name: str) -> str:
    return " ".join(text.printable(name).split())


def _keys(column: Column) -> tuple[str, ...]:
    return (f"{column.key}_mean", f"{column.key}_std") if column.kind == "spread" else (column.key,)


def _raw(cell: Cell, column: Column) -> tuple[str, ...]:
    if column.kind == "spread":
        spread = cell if isinstance(cell, Spread) else Spread()
        return _number(spread.mean), _number(spread.std)
    if isinstance(cell, str):
        return (csv_text(_one_line(cell)),)
    return (_number(None if isinstance(cell, Spread) else cell),)


def _number(value: float | None) -> str:
    return "" if text.finite(value) is None else repr(value)
