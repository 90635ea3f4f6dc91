"""The feature files of MMRec, which LATTICE, MICRO, MMSSL, FREEDOM and BM3 also read."""

import csv
from collections.abc import Mapping
from pathlib import Path

from nmcl.pipeline.export.arrays import write_matrices
from nmcl.pipeline.export.record import Export, Written, left_out
from nmcl.pipeline.export.rows import write_rows
from nmcl.pipeline.records import Modality

_FILES: Mapping[Modality, str] = {"visual": "image_feat", "textual": "text_feat", "acoustic": "audio_feat"}


def write(export: Export, folder: Path) -> Written:
    """Write `image_feat.npy`, `text_feat.npy`, `audio_feat.npy`, (N, D), and `i_id_mapping.csv`: a row is an item id.

    The mapping is separated by tabs; its columns `asin` and `itemID` are an id and its row.
    """
    chosen = export.by_modality(_FILES)
    contents = write_matrices(folder, chosen)
    with (folder / "i_id_mapping.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(["asin", "itemID"])
        rows.writerows((video_id, row) for row, video_id in enumerate(export.ids))
    write_rows(export, folder)
    return Written(contents, left_out(export, chosen))
