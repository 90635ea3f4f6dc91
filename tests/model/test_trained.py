"""Every model of the registry through `fit`, `predict`, `save` and `load`; what is refused; what is not
leaked."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from scipy.sparse import csr_array

from nmcl.model.baselines.logistic import LogisticSettings
from nmcl.model.checkpoint import load, save
from nmcl.model.data import Dataset
from nmcl.model.evaluate import evaluate
from nmcl.model.nmcl.nmcl import NMCLSettings
from nmcl.model.registry import MODELS
from nmcl.model.train import TrainSettings
from nmcl.model.trained import Trained, can_start_warm, fit, fit_alone
from nmcl.pipeline.errors import ModelError
from tests.model.conftest import CLASSES, quick, with_terms, world

CONTRACT = sorted(MODELS.keys() - {"dare"})
"""DARE cannot be trained without outside sounds; its own tests give it some."""


def brief(name: str) -> Any:
    """The model's own settings, made quick where it is trained by epochs."""
    settings = MODELS[name].settings
    if hasattr(settings, "train"):
        train = replace(settings.train, max_epochs=20, device="cpu", learning_rate=3e-3)
        settings = replace(settings, train=train, hidden=128)
    return settings


@pytest.fixture(scope="module")
def train() -> Dataset:
    return with_terms(world(160, seed=1), 1)


@pytest.fixture(scope="module")
def validation() -> Dataset:
    return with_terms(world(80, seed=2), 2)


@pytest.fixture(scope="module")
def test() -> Dataset:
    return with_terms(world(400, seed=3), 3)


@pytest.fixture(scope="module", params=CONTRACT)
def trained(request: pytest.FixtureRequest, train: Dataset, validation: Dataset) -> Trained:
    return fit(request.param, train, validation, CLASSES, brief(request.param), seed=3)


def test_it_learns_and_its_probabilities_sum_to_1(trained: Trained, test: Dataset) -> None:
    found = trained.predict(test.modalities, test.observed, test.terms)
    for probability in (found.probability, *found.per_modality.values()):
        assert probability.shape == (len(test), 4)
        assert probability.dtype == np.float32
        np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    if trained.name != "majority":
        assert evaluate(found.probability, test.label, CLASSES).scores.macro_f1 > 0.4  # chance is 0.25


def test_the_same_seed_gives_the_same_bytes(
    trained: Trained, train: Dataset, validation: Dataset, tmp_path: Path
) -> None:
    torch.rand(3)  # the state of the global generator must not matter
    again = fit(trained.name, train, validation, CLASSES, trained.settings, seed=3)
    save(trained, tmp_path / "a")
    save(again, tmp_path / "b")
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_round_trip_is_exact(trained: Trained, test: Dataset, tmp_path: Path) -> None:
    save(trained, tmp_path)
    found = load(tmp_path)
    for name in ("name", "settings", "classes", "seed", "history", "diagnostics", "dims"):
        assert getattr(found, name) == getattr(trained, name)
    before, after = (model.predict(test.modalities, terms=test.terms) for model in (trained, found))
    np.testing.assert_array_equal(before.probability, after.probability)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    save(found, tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_an_empty_table_gives_an_empty_prediction(trained: Trained) -> None:
    nothing = {name: np.zeros((0, dim), np.float32) for name, dim in trained.dims.items()}
    terms = {name: csr_array((0, n_terms)) for name, n_terms in trained.n_terms.items()}
    assert trained.predict(nothing, terms=terms).probability.shape == (0, 4)


def test_other_modalities_are_refused(trained: Trained, test: Dataset) -> None:
    with pytest.raises(ModelError, match="expected"):
        trained.predict(test.only(["sight"]).modalities)
    with pytest.raises(ModelError, match=r"expected .*words.*12"):
        trained.predict(test.modalities, terms={"words": csr_array((len(test), 5))})


def test_rows_without_a_term_are_predicted(trained: Trained, test: Dataset) -> None:
    none = {"words": csr_array((len(test), 12), dtype=np.float32)}
    first, second = (trained.predict(test.modalities, terms=terms).probability for terms in (None, none))
    np.testing.assert_array_equal(first, second)


def test_settings_pass_through_json(trained: Trained) -> None:
    adapter = TypeAdapter(type(trained.settings))
    assert adapter.validate_json(json.dumps(dataclasses.asdict(trained.settings))) == trained.settings


def test_settings_out_of_range_are_refused() -> None:
    adapter = TypeAdapter(NMCLSettings)
    for wrong in ({"dropout": 1.0}, {"hidden": 0}, {"gate": "softmax"}, {"train": {"learning_rate": 0}}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_another_seed_gives_another_model(train: Dataset, validation: Dataset, test: Dataset) -> None:
    first, second = (fit("nmcl", train, validation, CLASSES, quick(), seed) for seed in (0, 1))
    assert not np.array_equal(first.predict(test.modalities).probability, second.predict(test.modalities).probability)


def test_fit_leaves_the_global_generator_alone(train: Dataset, validation: Dataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit("nmcl", train, validation, CLASSES, quick(), 0)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_nothing_is_fitted_on_validation_rows(train: Dataset, validation: Dataset) -> None:
    """With one epoch and no stacking there is nothing to choose, so validation rows must not change a single bit."""
    once = quick(train=replace(quick().train, max_epochs=1))
    moved = Dataset({n: 9 * x - 4 for n, x in validation.modalities.items()}, {}, (validation.label + 1) % 4)
    first, second = (fit("nmcl", train, rows, CLASSES, once, 0) for rows in (validation, moved))
    for name, value in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], value, rtol=0, atol=0)
    for name, mean in first.standardizer.mean.items():
        expected = train.modalities[name].mean(axis=0, dtype=np.float64)
        np.testing.assert_array_equal(mean, expected.astype(np.float32))
        np.testing.assert_array_equal(second.standardizer.mean[name], mean)


def test_together_is_better_than_each_alone(train: Dataset, validation: Dataset, test: Dataset) -> None:
    settings = brief("nmcl")
    alone = fit_alone("nmcl", train, validation, CLASSES, settings)
    assert list(alone) == ["sight", "sound", "words"]
    together = fit("nmcl", train, validation, CLASSES, settings).predict(test.modalities).probability
    best = evaluate(together, test.label, CLASSES).scores.macro_f1
    for name, model in alone.items():
        found = model.predict(test.only([name]).modalities)
        assert list(found.per_modality) == [name]
        assert evaluate(found.probability, test.label, CLASSES).scores.macro_f1 < best - 0.1


def test_branches_and_diagnostics_are_reported(train: Dataset, validation: Dataset) -> None:
    found = fit("nmcl", train, validation, CLASSES, quick())
    assert list(found.diagnostics["gates"]) == ["sight", "sound", "words"]
    assert list(found.history[0].per_modality) == ["sight", "sound", "words"]
    json.dumps([dataclasses.asdict(epoch) for epoch in found.history], allow_nan=False)


@pytest.mark.parametrize("name", CONTRACT)
def test_a_class_without_training_rows_is_no_problem(name: str, validation: Dataset) -> None:
    rows = with_terms(world(60, seed=4), 4)
    label = np.where(rows.label == 2, 3, rows.label)
    for train_label in (label, np.zeros(60, int)):
        train = replace(rows, label=train_label)
        settings = brief(name)
        if hasattr(settings, "train"):
            settings = replace(settings, train=replace(settings.train, max_epochs=2))
        found = fit(name, train, validation, CLASSES, settings)
        assert np.isfinite(found.predict(validation.modalities, terms=validation.terms).probability).all()


def test_what_cannot_be_trained_on_is_refused(train: Dataset, validation: Dataset) -> None:
    empty = Dataset({n: x[:0] for n, x in train.modalities.items()}, {}, train.label[:0])
    cases: list[tuple[str, Dataset, Dataset, tuple[str, ...], object, str]] = [
        ("oracle", train, validation, CLASSES, None, "no model"),
        ("nmcl", train, validation, CLASSES, MODELS["logistic"].settings, "takes NMCLSettings"),
        ("nmcl", empty, validation, CLASSES, None, "no training rows"),
        ("nmcl", train, empty, CLASSES, None, "no validation rows"),
        ("nmcl", train, validation, CLASSES[:2], None, "labels run"),
        ("nmcl", train, validation, ("beach",) * 4, None, "different names"),
        ("nmcl", train, validation.only(["sight"]), CLASSES, None, "modalities"),
    ]
    for name, rows, held_out, classes, settings, message in cases:
        with pytest.raises(ModelError, match=message):
            fit(name, rows, held_out, classes, settings)


class TestWarmStart:
    """Training that starts from the weights of another model."""

    @pytest.fixture(scope="class")
    def champion(self, train: Dataset, validation: Dataset) -> Trained:
        return fit("nmcl", train, validation, CLASSES, quick())

    def test_begins_where_the_other_ended(self, champion: Trained, train: Dataset, validation: Dataset) -> None:
        settings = quick(train=TrainSettings(max_epochs=1, learning_rate=1e-9, weight_decay=0.0, device="cpu"))
        start = replace(champion, settings=settings)
        warm = fit("nmcl", train, validation, CLASSES, settings, start=start)
        assert warm.standardizer is champion.standardizer
        for (name, old), new in zip(champion.network.named_parameters(), warm.network.parameters(), strict=True):
            torch.testing.assert_close(new, old, msg=name)
        cold = fit("nmcl", train, validation, CLASSES, settings)
        assert warm.history[0].loss < cold.history[0].loss - 0.1

    def test_of_other_classes_keeps_what_does_not_depend_on_them(
        self, champion: Trained, train: Dataset, validation: Dataset
    ) -> None:
        settings = quick(train=TrainSettings(max_epochs=1, learning_rate=1e-9, weight_decay=0.0, device="cpu"))
        warm = fit("nmcl", train, validation, (*CLASSES[:3], "zoo"), settings, start=champion)
        old, new = champion.network.state_dict(), warm.network.state_dict()
        kept = {name for name, weight in champion.network.named_parameters() if torch.allclose(new[name], old[name])}
        renewed = {name for name, weight in champion.network.named_parameters() if weight.ndim > 1} - kept
        assert any("nets" in name for name in kept)
        assert any("class_vectors" in name for name in renewed)

    def test_refuses_another_model_and_other_features(
        self, champion: Trained, train: Dataset, validation: Dataset
    ) -> None:
        with pytest.raises(ModelError, match="train from scratch"):
            fit("mlp", train, validation, CLASSES, brief("mlp"), start=champion)
        with pytest.raises(ModelError, match="train from scratch"):
            fit("nmcl", train.only(["sight"]), validation.only(["sight"]), CLASSES, quick(), start=champion)
        with pytest.raises(ModelError, match="other settings"):
            fit("nmcl", train, validation, CLASSES, quick(hidden=8), start=champion)

    def test_a_closed_form_learns_as_from_scratch(self, train: Dataset, validation: Dataset, test: Dataset) -> None:
        assert not can_start_warm("logistic")
        assert can_start_warm("nmcl")
        assert can_start_warm("nmcl_stacked")
        cold = fit("logistic", train, validation, CLASSES)
        warm = fit("logistic", train, validation, CLASSES, start=cold)
        same = [model.predict(test.modalities).probability for model in (cold, warm)]
        np.testing.assert_array_equal(*same)


@pytest.mark.filterwarnings("error")
def test_a_solver_that_stops_early_prints_no_warning_of_scikit_learn(train: Dataset, validation: Dataset) -> None:
    trained = fit("logistic", train, validation, CLASSES, LogisticSettings(max_iterations=1))
    assert np.isfinite(trained.predict(validation.modalities).probability).all()
