"""PyTorch data sets of exported features: streamed part by part, or held in memory."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.record import Export, FeatureSet
from nmcl.pipeline.records import Split, Steps

MIXED_BLOCKS = 16
"""Number of random parts in memory at once whose rows are mixed: 38 MB at the paper's 2,348 columns."""


class Item(TypedDict):
    """One video. A `DataLoader` collates items: B of them become tensors (B, ...) and lists of B texts."""

    id: str
    features: dict[str, Tensor]
    """Vectors by feature set, shape (D,), float32."""
    observed: dict[str, bool]
    """Whether the vector was extracted, by feature set; False: it is completed, zeros or NaN."""
    label: int
    """Index into `classes`; -1 without a label."""
    split: str
    """`train`, `validation` or `test`; empty without one."""
    sequences: NotRequired[dict[str, Tensor]]
    """With sequences: what was pooled, by feature set, shape (T, D), float32; (0, D) where absent.

    T differs between videos: give the loader a `collate_fn`.
    """
    times_s: NotRequired[dict[str, Tensor]]
    """Times of the sequences, shape (T,), in seconds."""


class StreamedFeatures(IterableDataset[Item]):
    """Videos that are read part by part, so that memory does not grow with their number.

    The workers of a `DataLoader` share out the parts. Its argument `shuffle` is for data sets in memory; here the data
    set shuffles: in each epoch the order of parts, and rows among `MIXED_BLOCKS` parts. The order follows
    `torch.manual_seed`, or the loader's generator if it has workers.

    Args:
        export: The videos.
        rows: Mask of the videos to yield, shape (N,), bool.
        shuffle: Whether to shuffle.
    """

    def __init__(self, export: Export, rows: np.ndarray, shuffle: bool) -> None:
        self._export = export
        self._rows = rows
        self._shuffle = shuffle
        self.classes = export.classes
        """Names of the classes, in the order of `label`."""
        self.n_rows = int(rows.sum())
        """Number of videos of an epoch. There is no `len`: with workers, batches are counted for each of them."""

    def __iter__(self) -> Iterator[Item]:
        worker = get_worker_info()
        if worker is None:
            seed, first, step, export = int(torch.empty((), dtype=torch.int64).random_()), 0, 1, self._export
        else:
            seed, first, step = worker.seed - worker.id, worker.id, worker.num_workers
            export = pickle.loads(pickle.dumps(self._export))  # connections of a forked process must be opened again
        random = np.random.default_rng(seed)  # the same in all workers, which share out one order of parts
        ends = np.cumsum(export.block_sizes)
        starts = ends - export.block_sizes
        numbers = [n for n in range(len(ends)) if self._rows[starts[n] : ends[n]].any()]
        if self._shuffle:
            numbers = [numbers[i] for i in random.permutation(len(numbers))]
        numbers = numbers[first::step]
        size = MIXED_BLOCKS if self._shuffle else 1
        for mixed in (numbers[i : i + size] for i in range(0, len(numbers), size)):
            rows = np.concatenate([np.arange(starts[n], ends[n]) for n in mixed])
            vectors = {feature.name: _read(feature, mixed) for feature in export.features}
            steps = _steps(export, mixed)
            order = random.permutation(len(rows)) if self._shuffle else range(len(rows))
            for i in order:
                if self._rows[rows[i]]:
                    yield _item(export, rows[i], vectors, steps, i)


class FeaturesInMemory(Dataset[Item]):
    """Videos in memory, for loaders and samplers that need an index and a length.

    Args:
        export: The videos.
        rows: Mask of the videos to hold, shape (N,), bool.
    """

    def __init__(self, export: Export, rows: np.ndarray) -> None:
        self._export = export
        self._rows = np.flatnonzero(rows)
        self._vectors = {feature.name: _read(feature)[rows] for feature in export.features}
        self._steps = {name: [steps[i] for i in self._rows] for name, steps in _steps(export).items()}
        self.classes = export.classes
        """Names of the classes, in the order of `label`."""

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> Item:
        return _item(self._export, self._rows[i], self._vectors, self._steps, i)


def torch_data(
    export: Export, splits: Sequence[Split] | None, labelled: bool, shuffle: bool, in_memory: bool
) -> StreamedFeatures | FeaturesInMemory:
    """Return the data set of some videos.

    Args:
        splits: Only videos of these splits; None: all.
        labelled: Only videos with a label.
        shuffle: See `StreamedFeatures`.
        in_memory: Whether to hold all vectors in memory.

    Raises:
        UserError: If no video is left, or it is to be shuffled in memory.
    """
    rows = np.ones(len(export), bool) if splits is None else np.any([export.in_split(s) for s in splits], axis=0)
    if labelled:
        rows &= export.class_indices >= 0
    if not rows.any():
        found = {split or "none": int(export.in_split(split).sum()) for split in dict.fromkeys(export.splits)}
        wanted = f"the split {' or '.join(splits)}" if splits else "the store"
        raise UserError(f"No video is left: found {found} videos by split, and wanted {wanted}.")
    if not in_memory:
        return StreamedFeatures(export, rows, shuffle)
    if shuffle:
        raise UserError("A data set in memory is shuffled by its loader: DataLoader(..., shuffle=True).")
    return FeaturesInMemory(export, rows)


def _read(feature: FeatureSet, numbers: Sequence[int] | None = None) -> np.ndarray:
    return np.concatenate(list(feature.blocks(numbers)))


def _steps(export: Export, numbers: Sequence[int] | None = None) -> dict[str, list[Steps]]:
    """Return the sequences of the feature sets that have any."""
    return {
        f.name: [
            s or Steps(np.empty((0, f.dim), np.float32), np.empty(0, np.float32)) for s in chain(*f.sequences(numbers))
        ]
        for f in export.features
        if f.sequences is not None
    }


def _item(
    export: Export, row: int, vectors: Mapping[str, np.ndarray], steps: Mapping[str, Sequence[Steps]], i: int
) -> Item:
    item: Item = {
        "id": export.ids[row],
        "features": {name: torch.tensor(array[i]) for name, array in vectors.items()},
        "observed": {feature.name: bool(feature.observed[row]) for feature in export.features},
        "label": int(export.class_indices[row]),
        "split": export.splits[row] or "",
    }
    if steps:
        item["sequences"] = {name: torch.tensor(found[i].vectors) for name, found in steps.items()}
        item["times_s"] = {name: torch.tensor(found[i].times_s) for name, found in steps.items()}
    return item
