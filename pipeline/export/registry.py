"""The export formats. A new format is one file with a function `write`, and an entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export import (
    cornac,
    croissant,
    csv,
    elliot,
    hf,
    microlens,
    mmgcn,
    mmrec,
    mmsa,
    more,
    npz,
    parquet,
    torch,
    webdataset,
)
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.text import hint


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
    size: Callable[[Export], str] | None = None
    """Returns a sentence about the size, if padding decides it; a dry run prints it."""


FORMATS: Mapping[str, Format] = {
    "parquet": Format(parquet.write, "features.parquet", False, "one row per video", "pandas, Polars, DuckDB, PyArrow"),
    "npz": Format(npz.write, "features.npz", False, "one matrix per feature set", "NumPy, nmcl reproduce"),
    "hf": Format(hf.write, "features-hf", True, "Parquet shards by split, with a card", "datasets (Hugging Face)"),
    "croissant": Format(croissant.write, "features-croissant", True, "Parquet, described in JSON-LD", "mlcroissant"),
    "torch": Format(torch.write, "features-torch", True, "dicts of tensors by id", "PyTorch", sequences="option"),
    "more": Format(more.write, "features-more", True, "tensors by id, ids by split, labels", "MoRE", False, "option"),
    "mmrec": Format(
        mmrec.write,
        "features-mmrec",
        True,
        "one matrix per modality",
        "MMRec, LATTICE, MICRO, MMSSL, FREEDOM, BM3",
        False,
    ),
    "cornac": Format(cornac.write, "features-cornac", True, "matrices and their ids", "Cornac", False),
    "elliot": Format(
        elliot.write, "features-elliot", True, "one vector per file, as Ducho writes them", "Elliot", False
    ),
    "mmgcn": Format(mmgcn.write, "features-mmgcn", True, "one matrix per modality", "MMGCN", False),
    "microlens": Format(microlens.write, "features-microlens", True, "matrices and their ids", "MicroLens", False),
    "mmsa": Format(
        mmsa.write, "features.pkl", False, "sequences by split in a pickle", "MMSA", False, "always", mmsa.padded_size
    ),
    "webdataset": Format(webdataset.write, "features-webdataset", True, "tar shards by split", "webdataset"),
    "csv": Format(csv.write, "features.csv", False, "one row per video, one column per number", "spreadsheets, R"),
}


def format_of(name: str) -> Format:
    """Return a format by its name.

    Raises:
        UserError: If there is none; names the closest.
    """
    if name not in FORMATS:
        raise UserError(
            f"There is no export format {name!r}.{hint(name, FORMATS)} Expected one of {', '.join(FORMATS)}."
        )
    return FORMATS[name]
