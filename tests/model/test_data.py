"""Datasets refuse what models cannot use; the standardiser is fitted on observed training rows only."""

import numpy as np
import pytest

from nmcl.model.data import Dataset, Standardizer
from nmcl.pipeline.errors import ModelError


def dataset(**modalities: np.ndarray) -> Dataset:
    return Dataset(modalities, {}, np.zeros(len(next(iter(modalities.values()))), np.int64))


def test_modalities_are_sorted_and_float32() -> None:
    rows = dataset(b=np.ones((2, 3)), a=np.zeros((2, 1)))
    assert list(rows.modalities) == ["a", "b"]
    assert rows.modalities["b"].dtype == np.float32
    assert rows.observed["a"].all()
    assert rows.dims == {"a": 1, "b": 3}
    assert list(rows.only(["b"]).modalities) == ["b"]


@pytest.mark.parametrize(
    ("modalities", "observed", "label", "found"),
    [
        ({}, {}, [], "no modality"),
        ({"a": np.zeros(3)}, {}, [0, 0, 0], "shape"),
        ({"a": np.zeros((3, 0))}, {}, [0, 0, 0], "shape"),
        ({"a": np.full((3, 1), np.nan)}, {}, [0, 0, 0], "not finite"),
        ({"a": np.full((3, 1), 1e300)}, {}, [0, 0, 0], "not finite"),
        ({"a": np.zeros((3, 1)), "b": np.zeros((2, 1))}, {}, [0, 0, 0], "different numbers"),
        ({"a": np.zeros((3, 1))}, {"a": np.ones(3)}, [0, 0, 0], "mask"),
        ({"a": np.zeros((3, 1))}, {"b": np.ones(3, bool)}, [0, 0, 0], "unknown"),
        ({"a": np.zeros((3, 1))}, {}, [0, 0], "labels"),
        ({"a": np.zeros((3, 1))}, {}, [0.5, 0, 0], "labels"),
    ],
)
def test_unusable_rows_are_refused(modalities: dict, observed: dict, label: list, found: str) -> None:
    with pytest.raises(ModelError, match=found):
        Dataset(modalities, observed, np.array(label))


def test_an_unknown_modality_is_named() -> None:
    with pytest.raises(ModelError, match="smell"):
        dataset(a=np.zeros((2, 1))).only(["smell"])


def test_standardised_training_rows_have_mean_0_and_variance_1() -> None:
    rows = dataset(a=np.random.default_rng(0).normal(1e3, 7, (50, 3)))
    standardised = Standardizer.fit(rows).standardized(rows).modalities["a"]
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(standardised.std(axis=0), 1, atol=1e-4)
    assert standardised.dtype == np.float32


def test_a_constant_feature_does_not_explode() -> None:
    constant = np.full((4, 1), 0.1, np.float32)
    constant[0] = np.nextafter(np.float32(0.1), np.float32(1))
    standardised = Standardizer.fit(dataset(a=constant)).apply({"a": np.array([[0.2]], np.float32)})
    assert abs(standardised["a"][0, 0]) < 1


def test_completed_rows_do_not_count() -> None:
    array = np.array([[0.0], [2.0], [99.0]])
    rows = Dataset({"a": array}, {"a": np.array([True, True, False])}, np.zeros(3, int))
    fitted = Standardizer.fit(rows)
    assert fitted.mean["a"][0] == 1.0
    assert fitted.scale["a"][0] == 1.0
    never = Dataset({"a": array[:2]}, {"a": np.zeros(2, bool)}, np.zeros(2, int))
    assert Standardizer.fit(never).mean["a"][0] == 1.0


def test_other_dimensions_are_refused() -> None:
    fitted = Standardizer.fit(dataset(a=np.zeros((2, 3))))
    with pytest.raises(ModelError, match="expected"):
        fitted.apply({"a": np.zeros((2, 4), np.float32)})
    with pytest.raises(ModelError, match="expected"):
        fitted.apply({"b": np.zeros((2, 3), np.float32)})
