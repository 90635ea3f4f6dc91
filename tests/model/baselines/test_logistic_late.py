"""LogisticLate against scikit-learn, one modality at a time."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from nmcl.model.base import Shape
from nmcl.model.baselines.logistic import LogisticSettings
from nmcl.model.baselines.logistic_late import LogisticLate
from nmcl.model.data import Dataset, Standardizer
from nmcl.model.evaluate import f1
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES

PENALTIES = (0.001, 1.0)


@pytest.fixture(scope="module")
def rows(train: Dataset, validation: Dataset) -> tuple[Dataset, Dataset]:
    standardizer = Standardizer.fit(train)
    return standardizer.standardized(train), standardizer.standardized(validation)


def decided(model: LogisticLate, part: Dataset) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    found = model({name: torch.from_numpy(x) for name, x in part.modalities.items()}, {})
    return found.log_probability.exp().numpy(), {name: x.exp().numpy() for name, x in found.per_modality.items()}


def expected(train: Dataset, validation: Dataset) -> dict[str, np.ndarray]:
    found = {}
    for name, x in train.modalities.items():
        tried = [LogisticRegression(C=c, max_iter=300).fit(x, train.label) for c in PENALTIES]
        scores = [f1(validation.label, each.predict(validation.modalities[name]))[1] for each in tried]
        found[name] = tried[int(np.argmax(scores))].predict_proba(validation.modalities[name])
    return found


@pytest.mark.parametrize("names", [["sound"], ["sight", "sound", "words"]])
def test_it_is_the_mean_of_scikit_learn_s(rows: tuple[Dataset, Dataset], names: list[str]) -> None:
    train, validation = (part.only(names) for part in rows)
    model = LogisticLate(Shape(train.dims, CLASSES), LogisticSettings(PENALTIES))
    assert model.fit(train, validation, 0, silent) == ()
    mean, alone = decided(model, validation)
    reference = expected(train, validation)
    assert list(alone) == names
    for name, probability in reference.items():
        np.testing.assert_allclose(alone[name], probability, atol=1e-3)
    np.testing.assert_allclose(mean, np.mean([*reference.values()], axis=0), atol=1e-3)
    np.testing.assert_allclose(mean.sum(axis=1), 1, atol=1e-6)


def test_together_is_better_than_alone_and_survives_a_copy(rows: tuple[Dataset, Dataset]) -> None:
    train, validation = rows
    model = LogisticLate(Shape(train.dims, CLASSES), LogisticSettings())
    model.fit(train, validation, 0, silent)
    mean, alone = decided(model, validation)
    best = f1(validation.label, mean.argmax(axis=1))[1]
    assert best > 0.1 + max(f1(validation.label, each.argmax(axis=1))[1] for each in alone.values())
    again = LogisticLate(Shape(train.dims, CLASSES), LogisticSettings())
    again.load_state_dict(model.state_dict(), assign=True)
    np.testing.assert_array_equal(decided(again, validation)[0], mean)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def test_progress_counts_through_all_modalities(rows: tuple[Dataset, Dataset]) -> None:
    train, validation = rows
    reports: list[tuple[str, int, int]] = []

    def note(stage: str, done: int, total: int, note: str = "") -> None:
        reports.append((stage, done, total))

    LogisticLate(Shape(train.dims, CLASSES), LogisticSettings(PENALTIES)).fit(train, validation, 0, note)
    assert reports == [("train", done, 6) for done in range(1, 7)]
