"""Matrices and ids for the modalities of Cornac."""

from pathlib import Path

from nmcl.pipeline.export.arrays import write_ids, write_matrices
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.export.rows import write_rows


def write(export: Export, folder: Path) -> Written:
    """Write `SET.npy`, (N, D), and the list of ids `SET_ids.json` for each feature set."""
    contents = write_matrices(folder, {feature.name: feature for feature in export.features})
    for feature in export.features:
        write_ids(folder / f"{feature.name}_ids.json", export.ids)
    write_rows(export, folder)
    return Written(contents)
