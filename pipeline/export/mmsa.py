"""The pickle of MMSA, given to it as `custom_feature`: plain containers and arrays, nothing that runs code."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.pickles import PickleStream, dict_of_texts
from nmcl.pipeline.export.record import GROUPS, UNASSIGNED, Export, FeatureSet, Written, left_out
from nmcl.pipeline.records import Modality, Split

_MODALITIES: Mapping[Modality, str] = {"textual": "text", "acoustic": "audio", "visual": "vision"}
_SPLITS: Mapping[Split | None, str] = {"train": "train", "validation": "valid", "test": "test", None: UNASSIGNED}


def write(export: Export, path: Path) -> Written:
    """Write {train, valid, test, unassigned} of {text, audio, vision, their lengths and masks, ids, raw text, labels}.

    `text`, `audio` and `vision` have the shape (N, T, D), where T is the longest sequence, or 1, and shorter ones are
    padded with zeros. `classification_labels` are indices of the sorted names in `annotations`, -1 without a label, and
    `regression_labels` the same numbers as float32.

    Raises:
        UserError: If one of the three modalities has no feature set.
    """
    chosen = _chosen(export)
    with path.open("wb") as file:
        stream = PickleStream(file, 5)
        stream.begin_dict()
        for split in GROUPS:
            stream.text(_SPLITS[split])
            stream.begin_dict()
            _write_split(stream, export, chosen, export.in_split(split))
            stream.item()
        stream.end()
    notes = (
        f"Rows without a split are in {UNASSIGNED!r}, which MMSA ignores.",
        padded_size(export),
        *left_out(export, chosen),
    )
    return Written({name: feature.name for name, feature in chosen.items()}, notes)


def padded_size(export: Export) -> str:
    """Return a sentence about the shapes and bytes of the arrays, which MMSA loads whole.

    Raises:
        UserError: If one of the three modalities has no feature set.
    """
    chosen = _chosen(export)
    shapes = [f"{name} {f.longest:,} x {f.dim:,}" for name, f in chosen.items()]
    n_bytes = sum(4 * len(export) * feature.longest * feature.dim for feature in chosen.values())
    return f"Padded to {', '.join(shapes)} numbers per video: {n_bytes / 1e6:,.1f} MB, which MMSA holds in memory."


def _chosen(export: Export) -> dict[str, FeatureSet]:
    chosen = export.by_modality(_MODALITIES)
    if lacking := [name for name in _MODALITIES.values() if name not in chosen]:
        raise UserError(f"mmsa needs a feature set of each modality; there is none for {', '.join(lacking)}.")
    return chosen


def _write_split(stream: PickleStream, export: Export, chosen: Mapping[str, FeatureSet], rows: np.ndarray) -> None:
    n, where = int(rows.sum()), np.flatnonzero(rows).tolist()
    for name, feature in chosen.items():
        lengths = np.ones(len(rows), np.int64) if feature.lengths is None else feature.lengths
        shape = (n, feature.longest, feature.dim)
        _add(stream, name, shape, "<f4", _padded(feature, rows))
        _add(stream, f"{name}_lengths", (n,), "<i8", iter([lengths[rows]]))
        _add(stream, f"{name}_observed", (n,), "|b1", iter([feature.observed[rows]]))
    labels = export.class_indices[rows]
    _add(stream, "classification_labels", (n,), "<i8", iter([labels]))
    _add(stream, "regression_labels", (n,), "<f4", iter([labels]))
    texts = {
        "id": [export.ids[i] for i in where],
        "raw_text": [export.descriptions[i] or "" for i in where],
        "annotations": [export.labels[i] or "" for i in where],
    }
    dict_of_texts(stream, texts)


def _add(stream: PickleStream, name: str, shape: tuple[int, ...], dtype: str, blocks: Iterator[np.ndarray]) -> None:
    stream.text(name)
    stream.array(shape, dtype, blocks)
    stream.item()


def _padded(feature: FeatureSet, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the sequences of some rows, each (1, T, D), padded with zeros at the end."""
    if not rows.any():
        return  # a split that nothing is in costs no pass
    wanted = iter(rows)
    for block in feature.steps():
        for steps in block:
            if next(wanted):
                padded = np.zeros((1, feature.longest, feature.dim), np.float32)
                padded[0, : len(steps)] = steps
                yield padded
