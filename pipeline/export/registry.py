"""The export formats. A new format is one file with a function `write`, and an entry here."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export import csv, npz, parquet
from nmcl.pipeline.export.record import Export, Written


@dataclass(frozen=True)
class Format:
    """One export format."""

    write: Callable[[Export, Path], Written]
    """Writer to a file that does not exist, or into an empty folder."""
    default: str
    """Name of the file or folder if the user gives none."""
    is_folder: bool
    description: str
    consumer: str
    """Program or package that loads it."""
    holds_nan: bool = True
    """Whether its consumer understands NaN; the others would compute with it."""
    sequences: Literal["never", "option", "always"] = "never"
    """Whether it can hold sequences: with the option only, or whenever the store has them."""


FORMATS: Mapping[str, Format] = {
    "parquet": Format(parquet.write, "features.parquet", False, "one row per video", "pandas, Polars, DuckDB, PyArrow"),
    "npz": Format(npz.write, "features.npz", False, "one matrix per feature set", "NumPy, nmcl reproduce"),
    "csv": Format(csv.write, "features.csv", False, "one row per video, one column per number", "spreadsheets, R"),
}


def format_of(name: str) -> Format:
    """Return a format by its name.

    Raises:
        UserError: If there is none; names the closest.
    """
    if name not in FORMATS:
        close = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"There is no export format {name!r}.{hint} Expected one of {', '.join(FORMATS)}.")
    return FORMATS[name]
