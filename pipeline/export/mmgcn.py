"""The feature files of MMGCN."""

from collections.abc import Mapping
from pathlib import Path

from nmcl.pipeline.export.arrays import write_ids, write_matrices
from nmcl.pipeline.export.record import Export, Written, left_out
from nmcl.pipeline.export.rows import write_rows
from nmcl.pipeline.records import Modality

_FILES: Mapping[Modality, str] = {
    "visual": "FeatureVideo_normal",
    "acoustic": "FeatureAudio_avg_normal",
    "textual": "FeatureText_stl_normal",
}


def write(export: Export, folder: Path) -> Written:
    """Write `FeatureVideo_normal.npy`, `FeatureAudio_avg_normal.npy` and `FeatureText_stl_normal.npy`, each (N, D).

    The values are the feature sets' own; `_normal` is only the name. `ids.json` lists the ids of the rows.
    """
    chosen = export.by_modality(_FILES)
    contents = write_matrices(folder, chosen)
    write_ids(folder / "ids.json", export.ids)
    write_rows(export, folder)
    return Written(contents, left_out(export, chosen))
