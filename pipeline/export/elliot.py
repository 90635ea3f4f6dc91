"""One `.npy` file per video and feature set, for Elliot; the layout of Ducho."""

from pathlib import Path

import numpy as np

from nmcl.pipeline.export.names import safe_names
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.export.rows import write_rows
from nmcl.pipeline.text import counted


def write(export: Export, folder: Path) -> Written:
    """Write `SET/NAME.npy`, (D,), for each video and feature set. A name is the id, or a safe form of it.

    The column `file` of `rows.parquet` has the name of each id.
    """
    names = safe_names(export.ids)
    for feature in export.features:
        (folder / feature.name).mkdir()
        left = iter(names)
        for block in feature.blocks():
            for vector in block:
                np.save(folder / feature.name / f"{next(left)}.npy", vector)
    write_rows(export, folder, file=names)
    n_changed = sum(name != video_id for name, video_id in zip(names, export.ids, strict=True))
    note = f"{counted(n_changed, 'id')} cannot be file names: column `file` of rows.parquet has their names."
    return Written({f"{feature.name}/": feature.name for feature in export.features}, (note,) if n_changed else ())
