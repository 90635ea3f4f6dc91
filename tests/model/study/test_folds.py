"""Splits are stratified and seeded, and nothing is fitted on held-out rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from nmcl.model.feature_table import FeatureTable
from nmcl.model.study.folds import fold, stratified
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.records import SPLITS

RIDGE = CompletionSettings(method="ridge", regularization=0.1)


def table(counts: list[int], seed: int = 0) -> FeatureTable:
    label = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(seed)
    shared = random.normal(size=(len(label), 2))
    modalities = {
        "a": np.concatenate([shared, random.normal(size=(len(label), 1))], axis=1).astype(np.float32),
        "b": (shared @ random.normal(size=(2, 2))).astype(np.float32),
    }
    modalities["b"][::5] = np.nan
    return FeatureTable(modalities, label, tuple(f"class {k}" for k in range(len(counts))))


@given(st.lists(st.integers(3, 60), min_size=2, max_size=6), st.integers(0, 99))
def test_every_class_is_in_every_split_by_its_share(counts: list[int], seed: int) -> None:
    rows = table(counts)
    split = stratified(rows, seed)
    for label, n_rows in enumerate(counts):
        parts = np.array([(split[rows.label == label] == part).sum() for part in SPLITS])
        assert parts.sum() == n_rows
        assert (parts >= 1).all()
        if n_rows >= 10:
            np.testing.assert_allclose(parts / n_rows, (0.49, 0.21, 0.30), atol=1 / n_rows)
    totals = [(split == part).sum() for part in SPLITS]
    if min(counts) >= 10:
        np.testing.assert_allclose(totals, np.multiply(len(split), (0.49, 0.21, 0.30)), atol=1)


def test_the_seed_decides_and_a_given_split_wins() -> None:
    rows = table([30, 30])
    assert not np.array_equal(stratified(rows, 0), stratified(rows, 1))
    np.testing.assert_array_equal(stratified(rows, 0), stratified(rows, 0))
    given_split = np.array(SPLITS)[np.arange(60) % 3]
    found = fold(replace(rows, split=given_split), 5, RIDGE)
    np.testing.assert_array_equal(found.split, given_split)
    assert (len(found.train), len(found.validation), len(found.test)) == (20, 20, 20)


def test_a_class_too_small_to_split_is_refused() -> None:
    with pytest.raises(ModelError, match="'class 1' has 2 rows, expected at least 3"):
        stratified(table([9, 2]), 0)


def test_missing_vectors_are_completed_and_masked() -> None:
    rows = table([40, 40])
    found = fold(rows, 0, RIDGE)
    absent = np.isnan(rows.modalities["b"][found.split == "test"][:, 0])
    np.testing.assert_array_equal(found.test.observed["b"], ~absent)
    assert np.isfinite(found.test.modalities["b"]).all()


def test_term_weights_go_with_their_rows() -> None:
    rows = table([40, 40])
    terms = csr_array(np.random.default_rng(1).integers(0, 2, (80, 7)).astype(np.float32))
    split = stratified(rows, 0)
    found = fold(replace(rows, split=split, terms={"b": terms}), 0, RIDGE)
    for part, data in zip(SPLITS, (found.train, found.validation, found.test), strict=True):
        np.testing.assert_array_equal(data.terms["b"].toarray(), terms.toarray()[split == part])
    assert found.test.only(["a"]).terms == {}
    other = terms.copy()
    other.data[0] = 2
    digests = {fold(replace(rows, split=split, terms=t), 0, RIDGE).digest for t in ({}, {"b": terms}, {"b": other})}
    assert len(digests) == 3
    assert found.digest in digests


def test_held_out_rows_teach_the_completer_nothing() -> None:
    """Other values in validation and test rows leave the training rows and the completer as they were, bit for bit."""
    rows = table([40, 40])
    split = stratified(rows, 0)
    moved = {
        name: np.where((split != "train")[:, None], 9 * block - 4, block) for name, block in rows.modalities.items()
    }
    first = fold(replace(rows, split=split), 0, RIDGE)
    second = fold(replace(rows, split=split, modalities=moved), 0, RIDGE)
    for name, block in first.train.modalities.items():
        np.testing.assert_array_equal(second.train.modalities[name], block)
    for name, array in first.completer.arrays.items():
        np.testing.assert_array_equal(second.completer.arrays[name], array)
    assert set(SPLITS) == set(split.tolist())
