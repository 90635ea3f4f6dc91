"""The data folder of MoRE: `fea/*.pt`, `vids/*.csv`, `label.jsonl`."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from nmcl.pipeline.export.record import Export, Written, left_out
from nmcl.pipeline.export.rows import write_rows
from nmcl.pipeline.export.torch import write_tensors
from nmcl.pipeline.records import Modality, Split

_MODALITIES: Mapping[Modality, str] = {"visual": "vision", "acoustic": "audio", "textual": "text"}
_SPLITS: Mapping[Split, str] = {"train": "train", "validation": "valid", "test": "test"}


def write(export: Export, folder: Path) -> Written:
    """Write `fea/fea_NAME_modal_retrieval.pt`, {id: tensor}, for each of vision, audio and text; ids by split; labels.

    A label is the index of its name in the sorted names, which each line of `label.jsonl` also has.
    """
    chosen = export.by_modality(_MODALITIES)
    (folder / "fea").mkdir()
    (folder / "vids").mkdir()
    files = {f"fea/fea_{name}_modal_retrieval.pt": feature for name, feature in chosen.items()}
    for file, feature in files.items():
        write_tensors(folder / file, export.ids, feature)
    for split, name in _SPLITS.items():
        with (folder / "vids" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file_of_ids:
            rows = zip(export.ids, export.splits, export.labels, strict=True)
            csv.writer(file_of_ids, lineterminator="\n").writerows([i] for i, s, label in rows if s == split and label)
    with (folder / "label.jsonl").open("w", encoding="utf-8") as lines:
        for video_id, index, label in zip(export.ids, export.class_indices.tolist(), export.labels, strict=True):
            if label is not None:
                lines.write(json.dumps({"vid": video_id, "label": index, "name": label}, ensure_ascii=False) + "\n")
    write_rows(export, folder)
    return Written({file: feature.name for file, feature in files.items()}, left_out(export, chosen))
