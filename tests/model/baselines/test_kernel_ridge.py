"""Kernel ridge against a dense solve of its optimality conditions, and on what no linear model can tell."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from model.base import Shape
from model.baselines import kernel_ridge
from model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
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
    gamma, n = settings.width / x.shape[1], len(x)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-gamma * ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2))

    system = np.ones((n + 1, n + 1))
    system[:n, :n] = kernel(x, x) + settings.ridge * np.eye(n)
    system[n, n] = 0.0
    solution = np.linalg.solve(system, np.concatenate([np.eye(4)[train.label], np.zeros((1, 4))]))
    found = kernel(other, x) @ solution[:n] + solution[n]
    return np.asarray(found - found.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("chunk", [7, 4096])
def test_with_all_rows_as_landmarks_it_is_exact(
    chunk: int, train: Dataset, validation: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_ridge, "CHUNK", chunk)
    settings = KernelRidgeSettings()
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
