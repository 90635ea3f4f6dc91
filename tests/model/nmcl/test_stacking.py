"""Stacking: weights and temperatures against a slow search, and the fusion against the formula."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from nmcl.flows.settings import from_tree
from nmcl.model.base import Shape
from nmcl.model.calibration import PAIR_PRIOR, confusion, inverse_temperature, pair_weights, pool_weights
from nmcl.model.data import Dataset
from nmcl.model.nmcl.stacking import LEAST, STACKED, StackedKind, Stacking, fold_numbers
from nmcl.model.trained import fit
from nmcl.pipeline.errors import SettingsError
from tests.model.conftest import CLASSES, stacked


def guesses(seed: int, right: float, boldness: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (500, 4) that are right for a share of the rows, and the labels."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 4, 500)
    named = np.where(random.random(500) < right, label, random.integers(0, 4, 500))
    return log_softmax(boldness * (np.eye(4)[named] + 0.3 * random.normal(size=(500, 4))), axis=1), label


def test_the_weights_are_the_likeliest() -> None:
    first, label = guesses(0, 0.9, 3.0)
    second = np.roll(guesses(1, 0.8, 3.0)[0], 7, axis=0)
    log_p, prior = np.stack([first, second]), 2.0
    found = pool_weights(log_p, label, prior)
    pooled = softmax(log_p.mean(axis=0), axis=1)
    indicator = np.sqrt((pooled * (1 - pooled)).sum(axis=0))
    confused = np.clip(np.einsum("nj,nk->jk", pooled, pooled) / np.outer(indicator, indicator), 1e-3, 1)
    np.fill_diagonal(confused, 1)

    def penalised(flat: np.ndarray) -> float:
        weights = flat.reshape(2, 4, 4)
        score = np.einsum("ikj,inj->nk", weights, log_p)
        distance = ((weights - np.eye(4) / 2) ** 2 / confused**2).sum()
        return float(prior * distance - np.log(softmax(score, axis=1)[np.arange(500), label]).sum())

    slow = minimize(penalised, np.tile(np.eye(4), (2, 1, 1)).ravel(), method="Powell", options={"ftol": 1e-12})
    assert penalised(found.ravel()) == pytest.approx(slow.fun, rel=1e-6)
    np.testing.assert_allclose(found, slow.x.reshape(2, 4, 4), atol=2e-3)


def test_without_a_prior_an_ignorant_model_has_no_say_and_with_a_strong_one_all_are_equal() -> None:
    first, label = guesses(0, 0.9, 3.0)
    both = np.stack([first, 3.0 * np.random.default_rng(1).normal(size=(500, 4))])
    ignorant = pool_weights(both, label, 1e-6)[1]
    # What is added to the score of every class alike changes nothing.
    assert np.abs(ignorant - ignorant.mean(axis=0)).max() < 0.1
    np.testing.assert_allclose(pool_weights(both, label, 1e9), np.tile(np.eye(4) / 2, (2, 1, 1)), atol=1e-4)


def test_a_pair_of_classes_is_left_to_the_model_that_tells_them_apart() -> None:
    first, label = guesses(0, 0.95, 3.0)
    blind = first.copy()
    blind[:, :2] = first[:, :2].mean(axis=1, keepdims=True)
    weights = pool_weights(np.stack([first, blind]), label, 1.0)
    difference = weights[:, 0, 0] - weights[:, 0, 1] - weights[:, 1, 0] + weights[:, 1, 1]
    assert difference[0] > 2 * abs(difference[1])
    np.testing.assert_allclose(weights[0, 2:, 2:].diagonal(), weights[1, 2:, 2:].diagonal(), rtol=0.2)


def test_classes_that_are_confused_with_each_other_alone_get_a_correction() -> None:
    sure = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    found = confusion(np.log(np.maximum(sure, 1e-9)))
    np.testing.assert_allclose(found, [[1, 1, 0.001], [1, 1, 0.001], [0.001, 0.001, 1]], atol=1e-3)


def test_an_underconfident_model_is_sharpened() -> None:
    log_probability, label = guesses(0, 0.9, 0.5)
    factor = inverse_temperature(log_probability, label)
    target = np.where(np.eye(4)[label] == 1, 501 / 502, 1 / 502 / 3)
    grid = np.linspace(0.1, 10, 991)
    slow = grid[np.argmax([(target * log_softmax(f * log_probability, axis=1)).sum() for f in grid])]
    assert factor > 2
    np.testing.assert_allclose(factor, slow, atol=0.02)


def test_a_model_without_a_mistake_does_not_become_sure_of_everything() -> None:
    label = np.arange(40) % 4
    factor = inverse_temperature(np.eye(4)[label], label)
    assert softmax(factor * np.eye(4)[0])[0] == pytest.approx(41 / 42, abs=1e-3)


def test_before_fitting_the_network_has_all_the_weight(train: Dataset) -> None:
    stacking = Stacking(Shape(train.dims, CLASSES), tuple(STACKED), 5)
    fused = torch.log_softmax(torch.randn(5, 4), dim=1)
    features = {name: torch.randn(5, dim) for name, dim in train.dims.items()}
    torch.testing.assert_close(stacking(fused, features), fused)


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize("kinds", [("kernel_ridge",), ("mahalanobis", "logistic")])
def test_the_fusion_is_the_pool(
    kinds: tuple[StackedKind, ...], folds: int, train: Dataset, validation: Dataset, test: Dataset
) -> None:
    found = fit("nmcl_stacked", train, validation, CLASSES, stacked(stacked_with=kinds, folds=folds))
    stacking = found.network.stacking
    assert isinstance(stacking, Stacking)
    own = torch.stack([weight.trace() for weight in stacking.weight])
    shares = own[1:] / own.sum()
    assert found.diagnostics["stacking"] == pytest.approx(dict(zip(kinds, shares.tolist(), strict=True)), abs=1e-6)
    features = {n: torch.from_numpy(x) for n, x in found.standardizer.apply(test.modalities).items()}
    observed = {n: torch.from_numpy(mask) for n, mask in test.observed.items()}
    with torch.inference_mode():
        whole = found.network(features, observed)
        heads = torch.stack(list(whole.per_modality.values())).exp().mean(dim=0)
        log_p = [heads.log(), *(model(features, {}).log_probability for model in stacking.models)]
    product = torch.ones(len(test), len(CLASSES))
    for weight, factor, member in zip(stacking.weight, stacking.inverse_temperature, log_p, strict=True):
        sharpened = torch.softmax(factor * member, dim=1).clamp(min=math.exp(LEAST))
        for k, row in enumerate(weight):
            product[:, k] *= (sharpened**row).prod(dim=1)
    expected = product / product.sum(dim=1, keepdim=True)
    torch.testing.assert_close(whole.log_probability.exp(), expected, atol=1e-5, rtol=1e-4)


def test_masked_rows_look_the_same_to_stacked_models(train: Dataset, validation: Dataset) -> None:
    settings = stacked(missing="masked")
    lost = {**validation.observed, "words": np.zeros(len(validation), bool)}
    moved = {**validation.modalities, "words": validation.modalities["words"] + 5}
    found = fit("nmcl_stacked", train, replace(validation, observed=lost), CLASSES, settings)
    first, second = (found.predict(x, lost).probability for x in (validation.modalities, moved))
    np.testing.assert_array_equal(first, second)


def test_each_row_is_predicted_by_models_that_did_not_see_it() -> None:
    """A forest knows its rows by heart, and nothing about rows whose labels are drawn at random."""
    random = np.random.default_rng(0)
    rows = Dataset({"noise": random.normal(size=(200, 3))}, {}, random.integers(0, 4, 200))
    train, validation = rows.take(np.arange(150)), rows.take(np.arange(150, 200))
    settings = stacked(stacked_with=("forest_late", "kernel_ridge"))
    found = fit("nmcl_stacked", train, validation, CLASSES, settings)
    assert found.held_out is not None
    assert found.held_out.shape == (50, 4)
    entropy = -np.log(found.held_out[np.arange(50), validation.label]).mean()
    assert 1.25 < entropy < 1.6  # that of chance is 1.39
    known = found.predict(validation.modalities).probability
    assert (known.argmax(axis=1) == validation.label).mean() > (found.held_out.argmax(1) == validation.label).mean()


def test_it_is_fitted_to_validation_rows_in_the_end(train: Dataset, validation: Dataset) -> None:
    found = fit("nmcl_stacked", train, validation, CLASSES, stacked(stacked_with=("kernel_ridge",)))
    assert len(found.network.stacking.models[0].landmarks) == len(train) + len(validation)
    before = fit("nmcl_stacked", train, validation, CLASSES, stacked(stacked_with=("kernel_ridge",), folds=0))
    assert len(before.network.stacking.models[0].landmarks) == len(train)
    assert before.held_out is None


def test_a_warm_start_does_not_predict_validation_rows_that_it_was_fitted_to(
    train: Dataset, validation: Dataset
) -> None:
    """The champion was fitted to them; what is chosen and weighted on them must not come from its weights."""
    random = np.random.default_rng(0)
    noise = [replace(rows, label=random.integers(0, 4, len(rows))) for rows in (train, validation)]
    settings = stacked(stacked_with=("logistic",))
    champion = fit("nmcl_stacked", *noise, CLASSES, settings)
    cold = fit("nmcl_stacked", *noise, CLASSES, settings, seed=1)
    warm = fit("nmcl_stacked", *noise, CLASSES, settings, seed=1, start=champion)
    assert warm.held_out is not None
    right = (warm.held_out.argmax(axis=1) == noise[1].label).mean()
    assert right < 0.4  # 0.25 by chance
    assert all(new.loss > 0.8 * old.loss for new, old in zip(warm.history, cold.history, strict=False))
    before, after = (found.network.nmcl.state_dict() for found in (champion, warm))
    distance = sum(float((after[name] - before[name]).norm()) for name in before if name.endswith("weight"))
    from_scratch = cold.network.nmcl.state_dict()
    apart = sum(float((from_scratch[name] - before[name]).norm()) for name in before if name.endswith("weight"))
    assert distance < 0.7 * apart


def test_one_fold_is_refused() -> None:
    with pytest.raises(SettingsError, match="folds is 1"):
        from_tree({"model": {"folds": 1}})


def test_folds_are_even_within_classes() -> None:
    label = np.random.default_rng(0).choice(4, 103, p=[0.6, 0.3, 0.08, 0.02])
    fold = fold_numbers(label, 5, 3)
    counts = np.array([np.bincount(fold[label == k], minlength=5) for k in range(4)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert np.ptp(np.bincount(fold)) <= 1
    assert not np.array_equal(fold, fold_numbers(label, 5, 4))


def test_models_of_terms_are_left_out_without_any_and_forests_have_a_weight_per_modality(train: Dataset) -> None:
    without, beside = (
        Stacking(shape, tuple(STACKED), 5)
        for shape in (Shape(train.dims, CLASSES), Shape(train.dims, CLASSES, {"words": 12}))
    )
    assert not set(without.kinds) & {"ngram_bayes", "ngram_logistic"}
    assert len(without.weight) == 1 + 4 + 3
    assert len(beside.weight) == 1 + 6 + 3
    assert [*beside.shares()] == [*STACKED]


def test_the_weights_of_a_pair_are_the_likeliest() -> None:
    first, label = guesses(0, 0.9, 3.0)
    second = np.roll(guesses(1, 0.8, 3.0)[0], 7, axis=0)
    own, other = pair_weights(np.stack([first, second]), label, 0.25)

    def penalised(a: float, b: float) -> float:
        pooled = log_softmax(a * first + b * second, axis=1)
        return PAIR_PRIOR * ((a - 0.25) ** 2 + (b - 0.75) ** 2) - pooled[np.arange(500), label].sum()

    grid = [(penalised(a, b), a, b) for a in np.linspace(0, 2, 41) for b in np.linspace(0, 2, 41)]
    assert penalised(own, other) <= min(grid)[0] + 1e-6
    assert (own, other) == pytest.approx(min(grid)[1:], abs=0.05)


def test_a_handful_of_rows_is_enough(train: Dataset) -> None:
    rows = train.take(np.array([np.flatnonzero(train.label == k)[0] for k in range(3)]))
    found = fit("nmcl_stacked", rows.take(np.arange(2)), rows.take(np.array([2])), CLASSES, stacked())
    assert np.isfinite(found.predict(train.modalities).probability).all()
