"""Kernel ridge against a dense solve of its optimality conditions, and on what no linear model can tell."""

import numpy as np
import pytest

from nmcl.model.base import Shape
from nmcl.model.baselines import kernel_ridge
from nmcl.model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from nmcl.model.data import Dataset
from nmcl.model.trained import fit
from nmcl.pipeline.progress import silent
from tests.model.baselines.dense import dense_kernel_ridge, scores
from tests.model.conftest import CLASSES, world


@pytest.mark.parametrize("chunk", [7, 4096])
def test_with_all_rows_as_landmarks_it_is_exact(
    chunk: int, train: Dataset, validation: Dataset, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_ridge, "CHUNK", chunk)
    model = KernelRidge(Shape(train.dims, CLASSES), KernelRidgeSettings(ridges=()))
    model.fit(train, validation, 0, silent)
    expected = dense_kernel_ridge(train, test, model.settings)
    np.testing.assert_allclose(scores(model, model.inverse_temperature, test.modalities), expected, atol=2e-3)


def test_more_landmarks_come_nearer_to_the_exact_solution(train: Dataset, validation: Dataset, test: Dataset) -> None:
    errors = []
    for landmarks in (10, 60, 160):
        model = KernelRidge(Shape(train.dims, CLASSES), KernelRidgeSettings(landmarks=landmarks, ridges=()))
        model.fit(train, validation, 0, silent)
        assert model.landmarks.shape == (landmarks, 9)
        found = scores(model, model.inverse_temperature, test.modalities)
        errors.append(np.abs(found - dense_kernel_ridge(train, test, model.settings)).mean())
    assert errors[0] > 1.5 * errors[1]
    assert errors[2] < 1e-3


def test_it_tells_what_is_not_linear() -> None:
    """Whether two features have the same sign: the means of both classes are equal."""

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


def test_a_class_without_training_rows_is_not_named(validation: Dataset) -> None:
    train = world(60, seed=5)
    kept = train.label != 3
    known = Dataset({name: array[kept] for name, array in train.modalities.items()}, {}, train.label[kept])
    found = fit("kernel_ridge", known, validation, CLASSES)
    assert not (found.predict(validation.modalities).probability.argmax(axis=1) == 3).any()
