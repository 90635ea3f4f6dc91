"""The whitening against a power of the covariance, the model against a dense solve on features so whitened."""

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power
from sklearn.covariance import ledoit_wolf

from nmcl.model.base import Shape
from nmcl.model.baselines import kernel_ridge, mahalanobis
from nmcl.model.baselines.kernel_ridge import KernelRidgeSettings
from nmcl.model.baselines.mahalanobis import Mahalanobis, within_class_whitening
from nmcl.model.data import Dataset
from nmcl.model.trained import fit
from nmcl.pipeline.progress import silent
from tests.model.baselines.dense import dense_kernel_ridge, scores
from tests.model.conftest import CLASSES


def slow_whitening(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The shrunk covariance of rows less the mean of their class, by scikit-learn, to the power -1/2."""
    centred = np.stack([row - x[label == k].mean(axis=0) for row, k in zip(x, label, strict=True)])
    return np.asarray(fractional_matrix_power(ledoit_wolf(centred, assume_centered=True)[0], -0.5))


@pytest.mark.parametrize("n_features", [5, 40])
def test_the_whitening_is_the_root_of_the_shrunk_covariance_within_classes(
    n_features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more rows than features and with fewer."""
    monkeypatch.setattr(mahalanobis, "CHUNK", 7)
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 30)
    x = random.normal(size=(30, n_features)) @ random.normal(size=(n_features, n_features)) + 3 * label[:, None]
    found = within_class_whitening(x.astype(np.float32), label)
    np.testing.assert_allclose(found, slow_whitening(x, label), atol=1e-4)


def test_where_nothing_varies_within_classes_it_is_the_identity() -> None:
    label = np.array([0, 0, 1, 2])
    np.testing.assert_array_equal(within_class_whitening(np.eye(3, dtype=np.float32)[label], label), np.eye(3))


def test_a_constant_feature_is_not_blown_up_without_bound() -> None:
    """A thousandth of the mean variance is taken as its own."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(size=(20000, 2)), np.zeros((20000, 1))], axis=1).astype(np.float32)
    x[:, 1] *= 0.5
    found = within_class_whitening(x, random.integers(0, 2, 20000))
    assert found[2, 2] == pytest.approx((1e-3 * (1 + 0.25) / 3) ** -0.5, rel=0.02)


@pytest.mark.parametrize("chunk", [7, 4096])
def test_it_is_kernel_ridge_on_white_features(
    chunk: int, train: Dataset, validation: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_ridge, "CHUNK", chunk)
    model = Mahalanobis(Shape(train.dims, CLASSES), KernelRidgeSettings(ridges=()))
    model.fit(train, validation, 0, silent)

    x = train.side_by_side().astype(np.float64)
    whitening = slow_whitening(x, train.label)
    scale = np.sqrt(((x @ whitening) ** 2).mean())
    white = [Dataset({"all": rows.side_by_side() @ whitening / scale}, {}, rows.label) for rows in (train, test)]
    expected = dense_kernel_ridge(white[0], white[1], model.settings)
    np.testing.assert_allclose(scores(model, model.ridge.inverse_temperature, test.modalities), expected, atol=2e-3)


def test_a_direction_of_small_variance_counts() -> None:
    """Two modalities of ten features tell the same, but for a tenth in one of them."""

    def rows(seed: int) -> Dataset:
        random = np.random.default_rng(seed)
        label = random.integers(0, 2, 200)
        sight = random.normal(size=(200, 10)).astype(np.float32)
        sound = sight.copy()
        sound[:, 0] += 0.1 * (2 * label - 1)
        return Dataset({"sight": sight, "sound": sound}, {}, label)

    right = {
        name: (
            fit(name, rows(1), rows(2), ("a", "b")).predict(rows(3).modalities).probability.argmax(1) == rows(3).label
        )
        for name in ("kernel_ridge", "mahalanobis")
    }
    assert right["mahalanobis"].mean() > right["kernel_ridge"].mean() + 0.1
