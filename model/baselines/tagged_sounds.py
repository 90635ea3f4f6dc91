"""Tagged sound clips from other sources, the outside knowledge of DARE, read from an `.npz` file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmcl.model.data import Standardizer, checked
from nmcl.model.feature_table import read_arrays
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.features import FeatureRows

TAGS, LABEL = "tags", "label"
EXPECTED = f"Write it with numpy.savez(path, NAME=features, {TAGS}=...) or with {LABEL}=... for the tags."


@dataclass(frozen=True)
class TaggedSounds:
    """Features and tags of N' outside rows of one modality."""

    modality: str
    features: np.ndarray
    """Shape (N', D_m), float32, standardised by their own mean and deviation, as other clips often have another level.
    """
    tags: np.ndarray
    """Concepts in each clip, shape (N', K'), float32, 0..1."""


def read_tagged_sounds(path: Path, dims: dict[str, int], n_concepts: int) -> TaggedSounds:
    """Read tagged sounds from an `.npz` file without pickled objects.

    It must hold two arrays: one of shape (N', D_m) named after a modality, and either `tags`, shape (N', K'), 0..1, or
    `label`, shape (N',), integers 0..K'-1.

    Args:
        path: the file.
        dims: D_m of the model's modalities.
        n_concepts: K'.

    Raises:
        StoreError: the file is missing or damaged.
        ModelError: the file holds other arrays.
    """
    arrays = read_arrays(path, EXPECTED)
    given = sorted(arrays.keys() & {TAGS, LABEL})
    names = sorted(arrays.keys() - {TAGS, LABEL})
    if len(given) != 1 or len(names) != 1 or names[0] not in dims:
        raise ModelError(
            f"{path} holds {sorted(arrays)}, expected two arrays: features under the name of one of the modalities "
            f"{list(dims)}, and either {TAGS!r} or {LABEL!r}"
        )
    name, features = names[0], arrays[names[0]]
    if features.ndim != 2 or features.shape[1] != dims[name] or len(features) == 0 or features.dtype.kind not in "fiu":
        raise ModelError(
            f"{path}: {name!r} is {features.dtype} {features.shape}, expected numbers of shape (N', {dims[name]}) with "
            "N' >= 1; extract the sounds with the model's own settings"
        )
    tags = _tags(path, given[0], arrays[given[0]], len(features), n_concepts)
    rows = FeatureRows(*checked({name: features}, None))
    return TaggedSounds(name, Standardizer.fit(rows).apply(rows.modalities)[name], tags)


def count_concepts(path: Path) -> int:
    """Return K' of a file: the columns of its tags, or its largest label plus one.

    Raises:
        StoreError: the file is missing or damaged.
        ModelError: it has neither tags nor labels.
    """
    arrays = read_arrays(path, EXPECTED)
    tags, label = arrays.get(TAGS), arrays.get(LABEL)
    if tags is not None and tags.ndim == 2 and tags.shape[1]:
        return int(tags.shape[1])
    if label is not None and label.size and label.dtype.kind in "iu":
        return int(label.max()) + 1
    raise ModelError(f"{path} holds {sorted(arrays)}, expected {TAGS!r} of shape (N', K') or integers as {LABEL!r}")


def _tags(path: Path, kind: str, found: np.ndarray, n_rows: int, n_concepts: int) -> np.ndarray:
    """Return the checked tags, shape (N', K'), float32."""
    if kind == TAGS:
        fits = found.shape == (n_rows, n_concepts) and found.dtype.kind in "fiub"
        if fits and bool(((found >= 0) & (found <= 1)).all()):
            return found.astype(np.float32)
        expected = f"values of 0 to 1 of shape {(n_rows, n_concepts)}"
    else:
        fits = found.shape == (n_rows,) and found.dtype.kind in "iu"
        if fits and found.min() >= 0 and found.max() < n_concepts:
            one_hot = np.zeros((n_rows, n_concepts), np.float32)
            one_hot[np.arange(n_rows), found] = 1.0
            return one_hot
        expected = f"{n_rows} integers of 0 to {n_concepts - 1}"
    raise ModelError(
        f"{path}: {kind!r} is {found.dtype} {found.shape}, expected {expected}; "
        f"set n_concepts, now {n_concepts}, to the number of concepts in the file"
    )
