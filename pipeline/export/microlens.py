"""Matrices and ids for the frozen-feature models of MicroLens."""

from pathlib import Path

from nmcl.pipeline.export.arrays import write_ids, write_matrices
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.export.rows import write_rows


def write(export: Export, folder: Path) -> Written:
    """Write `SET.npy`, (N, D), for each feature set, and `ids.json`, the ids of the rows.

    MicroLens numbers items by their first interaction, from 1: its rows must be put into that order.
    """
    contents = write_matrices(folder, {feature.name: feature for feature in export.features})
    write_ids(folder / "ids.json", export.ids)
    write_rows(export, folder)
    return Written(contents)
