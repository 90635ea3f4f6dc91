"""One division of a feature table into training, validation and test rows, missing modalities filled in."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from nmcl.model.data import Dataset
from nmcl.model.feature_table import FeatureTable
from nmcl.pipeline import completion
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.records import SPLITS, State
from nmcl.pipeline.stages.splits import SplitSettings, allot

LEAST_ROWS = 3
"""A venue with fewer rows cannot be in every split."""


@dataclass(frozen=True)
class Fold:
    """The rows of one division."""

    seed: int
    table: FeatureTable
    """All rows, as given."""
    split: np.ndarray
    """Shape (N,), text: `train`, `validation` or `test`."""
    completer: State
    """Learnt from the training rows."""
    train: Dataset
    validation: Dataset
    test: Dataset

    @property
    def venues(self) -> tuple[str, ...]:
        """K names."""
        return self.table.venues

    @cached_property
    def digest(self) -> str:
        """Of all numbers and names, in hexadecimal."""
        hashed = hashlib.blake2b(repr((self.seed, self.venues, sorted(self.table.modalities))).encode(), digest_size=16)
        blocks = [self.split, self.table.label, *(block for _, block in sorted(self.table.modalities.items()))]
        for part in (self.train, self.validation, self.test):
            blocks += [*part.modalities.values(), *part.observed.values()]
        for block in blocks:
            hashed.update(repr((block.shape, block.dtype)).encode())
            hashed.update(block.tobytes())
        return hashed.hexdigest()


def fold(table: FeatureTable, seed: int, settings: CompletionSettings) -> Fold:
    """Divide a table, and complete it by what its training rows tell.

    The table's own split wins; without one it is stratified by venue and seed. A single modality is completed by
    its training mean: nothing else is known.

    Args:
        settings: `method` must not be `auto`.

    Raises:
        ModelError: a venue has too few rows to be split.
    """
    split = table.split if table.split is not None else stratified(table, seed)
    state = fit_completer(table, split == "train", settings)
    train, validation, test = (rows(table, split == part, state) for part in SPLITS)
    return Fold(seed, table, split, state, train, validation, test)


def fit_completer(table: FeatureTable, train: np.ndarray, settings: CompletionSettings) -> State:
    """Learn how to fill in from some rows. Args: train: shape (N,), bool."""
    if len(table.modalities) == 1:
        settings = replace(settings, method="mean")
    blocks = {name: block[train] for name, block in table.modalities.items()}
    with threadpool_limits(1):
        return completion.fit(blocks, settings)


def rows(table: FeatureTable, chosen: np.ndarray, completer: State) -> Dataset:
    """Some rows, completed. Args: chosen: shape (N,), bool."""
    blocks = {name: block[chosen] for name, block in table.modalities.items()}
    observed = {name: ~np.isnan(block[:, 0]) for name, block in blocks.items()}
    with threadpool_limits(1):
        return Dataset(completion.complete(blocks, completer), observed, table.label[chosen])


def stratified(table: FeatureTable, seed: int) -> np.ndarray:
    """A split of each class's rows by the default shares, at least one row in each part: shape (N,), text.

    Raises:
        ModelError: a venue has too few rows.
    """
    counts = np.bincount(table.label, minlength=len(table.venues))
    if (counts < LEAST_ROWS).any():
        venue = table.venues[int(counts.argmin())]
        raise ModelError(
            f"{venue!r} has {counts.min()} rows, expected at least {LEAST_ROWS} for a split into training, validation "
            "and test rows; leave the label out or give a split of your own"
        )
    random = np.random.default_rng(seed)
    split = np.full(len(table), "", dtype="U10")
    quotas = allot(dict(enumerate(counts.tolist())), SplitSettings().shares(SPLITS))
    for label, quota in quotas.items():
        parts = [part for part in ("test", "validation", "train") for _ in range(quota[part])]
        split[random.permutation(np.flatnonzero(table.label == label))] = parts
    return split
