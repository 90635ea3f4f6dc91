"""Folds: a split of a feature table into training, validation and test rows with missing modalities completed."""

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
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.records import SPLITS, State
from nmcl.pipeline.stages.splits import SplitSettings, allot

LEAST_ROWS = 3
"""Smallest number of rows of a class: with fewer it cannot be in every split."""


@dataclass(frozen=True)
class Fold:
    """Rows of one split of a table, with missing modalities completed."""

    seed: int
    table: FeatureTable
    """All rows, as given, with the modalities that are fitted on the training rows."""
    split: np.ndarray
    """Shape (N,), text: `train`, `validation` or `test`."""
    completer: State
    """Completer fitted on the training rows."""
    train: Dataset
    validation: Dataset
    test: Dataset
    unlabelled: FeatureRows | None = None
    """Training rows whose labels are hidden, if methods are to use them; else None."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The K names of the classes."""
        return self.table.classes

    @cached_property
    def digest(self) -> str:
        """Hexadecimal digest of all arrays and names."""
        hashed = hashlib.blake2b(
            repr((self.seed, self.classes, sorted(self.table.modalities))).encode(), digest_size=16
        )
        blocks = [self.split, self.table.label, *(block for _, block in sorted(self.table.modalities.items()))]
        parts: list[FeatureRows] = [self.train, self.validation, self.test]
        parts += [self.unlabelled] if self.unlabelled else []
        for part in parts:
            blocks += [*part.modalities.values(), *part.observed.values()]
        for terms in (self.table.terms, *(part.terms for part in parts)):
            for name, matrix in sorted(terms.items()):
                hashed.update(repr((name, matrix.shape)).encode())
                blocks += [matrix.indptr, matrix.indices, matrix.data]
        for block in blocks:
            hashed.update(repr((block.shape, block.dtype)).encode())
            hashed.update(block.tobytes())
        return hashed.hexdigest()


def fold(table: FeatureTable, seed: int, settings: CompletionSettings) -> Fold:
    """Split a table and complete it with a completer fitted on its training rows.

    The table's own split is used if there is one; otherwise rows are split by seed, stratified by class. A single
    modality is completed by its training mean, as there is nothing else to complete it from.

    Args:
        table: the labelled rows.
        seed: seed of the split.
        settings: completion settings; `method` must not be `auto`.

    Raises:
        ModelError: a class has too few rows to be split.
    """
    split = split_of(table, seed)
    table = table.fitted_on(split == "train")
    state = fit_completer(table, split == "train", settings)
    train, validation, test = (rows(table, split == part, state) for part in SPLITS)
    return Fold(seed, table, split, state, train, validation, test)


def split_of(table: FeatureTable, seed: int) -> np.ndarray:
    """Return the table's own split, else one drawn by the seed: names of shape (N,), text."""
    return table.split if table.split is not None else stratified(table, seed)


def fit_completer(table: FeatureTable, train: np.ndarray, settings: CompletionSettings) -> State:
    """Fit a completer on the rows that `train`, shape (N,), bool, selects."""
    if len(table.modalities) == 1:
        settings = replace(settings, method="mean")
    blocks = {name: block[train] for name, block in table.modalities.items()}
    with threadpool_limits(1):
        return completion.fit(blocks, settings)


def rows(table: FeatureTable, chosen: np.ndarray, completer: State) -> Dataset:
    """Return the completed rows that `chosen`, shape (N,), bool, selects."""
    blocks = {name: block[chosen] for name, block in table.modalities.items()}
    observed = {name: ~np.isnan(block[:, 0]) for name, block in blocks.items()}
    with threadpool_limits(1):
        completed = completion.complete(blocks, completer)
    terms = {name: matrix[chosen] for name, matrix in table.terms.items()}
    return Dataset(completed, observed, table.label[chosen], terms=terms)


def stratified(table: FeatureTable, seed: int) -> np.ndarray:
    """Split each class's rows by the default shares, at least one row per part; return names of shape (N,), text.

    Raises:
        ModelError: a class has too few rows.
    """
    counts = np.bincount(table.label, minlength=len(table.classes))
    if (counts < LEAST_ROWS).any():
        rarest = table.classes[int(counts.argmin())]
        raise ModelError(
            f"{rarest!r} has {counts.min()} rows, expected at least {LEAST_ROWS} for a split into training, validation "
            "and test rows; leave the label out or give a split of your own"
        )
    random = np.random.default_rng(seed)
    split = np.full(len(table), "", dtype="U10")
    quotas = allot(dict(enumerate(counts.tolist())), SplitSettings().shares(SPLITS))
    for label, quota in quotas.items():
        parts = [part for part in ("test", "validation", "train") for _ in range(quota[part])]
        split[random.permutation(np.flatnonzero(table.label == label))] = parts
    return split
