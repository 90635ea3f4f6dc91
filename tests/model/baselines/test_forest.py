"""Forests against scikit-learn's, tree by tree."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier

from nmcl.model.base import Shape
from nmcl.model.baselines import forest as module
from nmcl.model.baselines.forest import Forest, ForestLate, ForestSettings
from nmcl.model.data import Dataset
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES


def predicted(model: Forest | ForestLate, rows: Dataset) -> np.ndarray:
    features = {name: torch.from_numpy(x) for name, x in rows.modalities.items()}
    return np.asarray(model(features, {}).log_probability.exp().numpy())


def reference(train: Dataset, test: Dataset, trees: int, **settings: int) -> np.ndarray:
    model = ExtraTreesClassifier(trees, min_samples_leaf=2, random_state=5, **settings)
    shares = model.fit(train.side_by_side(), train.label).predict_proba(test.side_by_side())
    return (1 - 1 / (len(train) + 1)) * shares


@pytest.mark.parametrize("most_leaf_values", [1 << 24, 20 * 4 * 6])
def test_it_is_scikit_learn_s_but_for_the_smoothing(
    most_leaf_values: int, train: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many leaves as there are, and with at most six a tree."""
    monkeypatch.setattr(module, "MOST_LEAF_VALUES", most_leaf_values)
    model = Forest(Shape(train.dims, CLASSES), ForestSettings(trees=20))
    model.refit(train, 5, silent)
    bound = {} if most_leaf_values > 1 << 20 else {"max_leaf_nodes": 6}
    expected = reference(train, test, 20, max_depth=module.MAX_DEPTH, **bound)
    found = predicted(model, test)
    rest = found - expected
    np.testing.assert_allclose(rest, np.tile(rest[0], (len(rest), 1)), atol=1e-5)  # the same for every row
    assert 0 < rest.sum(axis=1).max() < 1.01 / len(train)


def test_a_threshold_between_two_float32_values_divides_them() -> None:
    low = np.float32(4)
    high = np.nextafter(low, np.float32(5))
    x = np.array([low, high] * 20)[:, None]
    rows = Dataset({"one": x}, {}, np.array([0, 1] * 20))
    model = Forest(Shape({"one": 1}, CLASSES[:2]), ForestSettings(trees=10))
    model.refit(rows, 0, silent)
    assert (predicted(model, rows).argmax(axis=1) == rows.label).all()


def test_late_is_the_mean_of_one_forest_per_modality(train: Dataset, test: Dataset) -> None:
    late = ForestLate(Shape(train.dims, CLASSES), ForestSettings(trees=20))
    late.refit(train, 5, silent)
    alone = []
    for name, dim in train.dims.items():
        one = Forest(Shape({name: dim}, CLASSES), ForestSettings(trees=20))
        one.refit(train.only([name]), 5, silent)
        alone.append(predicted(one, test.only([name])))
    np.testing.assert_allclose(predicted(late, test), np.mean(alone, axis=0), atol=1e-6)


def test_a_class_without_rows_is_possible_and_nodes_out_of_range_do_no_harm(train: Dataset, test: Dataset) -> None:
    kept = train.label != 3
    model = Forest(Shape(train.dims, CLASSES), ForestSettings(trees=5))
    model.refit(train.take(kept), 0, silent)
    found = predicted(model, test)
    assert 0 < found[:, 3].max() < 1e-3
    model.child = model.child * 1e6 - 5  # as in a file that somebody made up
    model.feature = model.feature * 1e3
    np.testing.assert_allclose(predicted(model, test).sum(axis=1), 1, atol=1e-5)
