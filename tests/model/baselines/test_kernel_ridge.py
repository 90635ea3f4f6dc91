"""Kernel ridge against a dense solve of its optimality conditions, and on what no linear model can tell."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power

from model.base import Shape
from model.baselines import kernel_ridge
from model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings, within_class_whitening
from model.data import Dataset
from model.trained import fit
from pipeline.progress import silent
from tests.model.conftest import VENUES, world


def scores(model: KernelRidge, modalities: Mapping[str, np.ndarray]) -> np.ndarray:
    """Fits of the one-hot vectors, from log-probabilities: up to a constant of each row."""
    with torch.inference_mode():
        features = {name: torch.from_numpy(array) for name, array in modalities.items()}
        found = (model(features, {}).log_probability / model.sharpness).numpy()
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def dense(train: Dataset, test: Dataset, settings: KernelRidgeSettings) -> np.ndarray:
    """The bordered system of a least-squares support vector machine: (K + ridge I) A + 1 c = Y, 1 A = 0."""
    x, other = train.side_by_side().astype(np.float64), test.side_by_side().astype(np.float64)
    if settings.shrinkage is not None:
        whitening = slow_whitening(x, train.label, settings.shrinkage)
        x, other = x @ whitening, other @ whitening
        scale = np.sqrt((x**2).mean())
        x, other = x / scale, other / scale
    blocks = [x.shape[1]] if settings.shrinkage is not None else list(train.dims.values())
    edges, n = np.cumsum([0, *blocks]), len(x)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squares = (a[:, None, :] - b[None, :, :]) ** 2
        parts = [squares[:, :, i:j].mean(axis=2) for i, j in pairwise(edges)]
        parts += [squares.mean(axis=2)] if len(parts) > 1 else []
        return np.mean(np.exp(-settings.width * np.stack(parts)), axis=0)

    system = np.ones((n + 1, n + 1))
    system[:n, :n] = kernel(x, x) + settings.ridge * np.eye(n)
    system[n, n] = 0.0
    solution = np.linalg.solve(system, np.concatenate([np.eye(4)[train.label], np.zeros((1, 4))]))
    found = kernel(other, x) @ solution[:n] + solution[n]
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def slow_whitening(x: np.ndarray, label: np.ndarray, shrinkage: float) -> np.ndarray:
    """The pooled covariance of the classes, as scatter over N - K, to the power -1/2."""
    classes = np.unique(label)
    scatter = sum(np.cov(x[label == k].T, bias=True) * (label == k).sum() for k in classes)
    return np.asarray(fractional_matrix_power(scatter / (len(x) - len(classes)) + shrinkage * np.eye(x.shape[1]), -0.5))


@pytest.mark.parametrize("n_features", [5, 40])
def test_the_whitening_is_the_root_of_the_covariance_within_classes(
    n_features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more rows than features and with fewer."""
    monkeypatch.setattr(kernel_ridge, "CHUNK", 7)
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 30)
    x = random.normal(size=(30, n_features)) @ random.normal(size=(n_features, n_features)) + 3 * label[:, None]
    for shrinkage in (0.03, 1.0):
        found = within_class_whitening(x.astype(np.float32), label, shrinkage)
        np.testing.assert_allclose(found, slow_whitening(x, label, shrinkage), atol=1e-4)


def test_within_classes_a_direction_of_small_variance_counts() -> None:
    """Two modalities of ten features tell the same, but for a tenth in one of them."""

    def rows(seed: int) -> Dataset:
        random = np.random.default_rng(seed)
        label = random.integers(0, 2, 200)
        sight = random.normal(size=(200, 10)).astype(np.float32)
        sound = sight.copy()
        sound[:, 0] += 0.1 * (2 * label - 1)
        return Dataset({"sight": sight, "sound": sound}, {}, label)

    right = []
    for shrinkage in (None, 0.03):
        settings = KernelRidgeSettings(shrinkage=shrinkage)
        found = fit("kernel_ridge", rows(1), rows(2), ("a", "b"), settings)
        right.append((found.predict(rows(3).modalities).probability.argmax(axis=1) == rows(3).label).mean())
    assert right[1] > right[0] + 0.1


@pytest.mark.parametrize(("chunk", "shrinkage"), [(7, None), (4096, None), (7, 0.1)])
def test_with_all_rows_as_landmarks_it_is_exact(
    chunk: int,
    shrinkage: float | None,
    train: Dataset,
    validation: Dataset,
    test: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_ridge, "CHUNK", chunk)
    settings = KernelRidgeSettings(shrinkage=shrinkage)
    model = KernelRidge(Shape(train.dims, VENUES), settings)
    model.fit(train, validation, 0, silent)
    np.testing.assert_allclose(scores(model, test.modalities), dense(train, test, settings), atol=2e-3)


def test_more_landmarks_come_nearer_to_the_exact_solution(train: Dataset, validation: Dataset, test: Dataset) -> None:
    errors = []
    for landmarks in (10, 60, 160):
        model = KernelRidge(Shape(train.dims, VENUES), KernelRidgeSettings(landmarks=landmarks))
        model.fit(train, validation, 0, silent)
        assert model.landmarks.shape == (landmarks, 9)
        errors.append(np.abs(scores(model, test.modalities) - dense(train, test, model.settings)).mean())
    assert errors[0] > 1.5 * errors[1]
    assert errors[2] < 1e-3


def test_it_tells_what_is_not_linear() -> None:
    """Whether two features have the same sign: the means of both venues are equal."""

    def rows(n: int, seed: int) -> Dataset:
        x = np.random.default_rng(seed).normal(size=(n, 2))
        return Dataset({"sight": x[:, :1], "sound": x[:, 1:]}, {}, (x[:, 0] * x[:, 1] > 0).astype(int))

    train, validation, test = rows(300, 1), rows(100, 2), rows(300, 3)
    right = {
        name: (fit(name, train, validation, ("a", "b")).predict(test.modalities).probability.argmax(1) == test.label)
        for name in ("kernel_ridge", "logistic")
    }
    assert right["kernel_ridge"].mean() > 0.9
    assert right["logistic"].mean() < 0.65


def test_a_venue_without_training_rows_is_not_named(validation: Dataset) -> None:
    train = world(60, seed=5)
    kept = train.label != 3
    known = Dataset({name: array[kept] for name, array in train.modalities.items()}, {}, train.label[kept])
    found = fit("kernel_ridge", known, validation, VENUES)
    assert not (found.predict(validation.modalities).probability.argmax(axis=1) == 3).any()
