"""The peers: their shares and sharpness against a slow search, and the fusion against the formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from model.base import Shape
from model.calibration import mixture_weights, sharpest
from model.data import Dataset
from model.peers import PEERS, PeerKind, Peers
from model.trained import fit
from tests.model.conftest import VENUES, quick


def decisions(seed: int, right: float, boldness: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (500, 4) that are right for a share of the rows, and the labels."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 4, 500)
    named = np.where(random.random(500) < right, label, random.integers(0, 4, 500))
    return log_softmax(boldness * (np.eye(4)[named] + 0.3 * random.normal(size=(500, 4))), axis=1), label


def test_the_weights_are_the_likeliest() -> None:
    first, label = decisions(0, 0.9, 3.0)
    second = np.roll(decisions(0, 0.8, 3.0)[0], 7, axis=0)
    second[:250] = first[:250]
    own = np.exp(np.stack([first, second])[:, np.arange(500), label])
    grid = np.linspace(0.001, 0.999, 999)
    prior = 20.0
    objective = [np.log((1 - w) * own[0] + w * own[1]).sum() + prior / 2 * (np.log(1 - w) + np.log(w)) for w in grid]
    found = mixture_weights(np.stack([first, second]), label, prior)
    assert found.sum() == pytest.approx(1.0)
    assert found[1] == pytest.approx(grid[int(np.argmax(objective))], abs=0.002)


def test_without_a_prior_an_ignorant_model_has_no_weight_and_with_a_strong_one_all_are_equal() -> None:
    first, label = decisions(0, 0.9, 3.0)
    both = np.stack([first, np.full((500, 4), np.log(0.25))])
    assert mixture_weights(both, label, 0.0)[1] < 0.3
    np.testing.assert_allclose(mixture_weights(both, label, 1e9), [0.5, 0.5], atol=1e-4)


def test_too_cautious_a_model_is_sharpened() -> None:
    log_probability, label = decisions(0, 0.9, 0.5)
    factor = sharpest(log_probability, label)
    rows = np.arange(500)
    grid = np.linspace(0.1, 10, 991)
    slow = grid[np.argmax([log_softmax(f * log_probability, axis=1)[rows, label].mean() for f in grid])]
    assert factor > 2
    np.testing.assert_allclose(factor, slow, atol=0.02)


def test_before_fitting_the_networks_decide_alone(train: Dataset) -> None:
    peers = Peers(Shape(train.dims, VENUES), tuple(PEERS))
    fused = torch.log_softmax(torch.randn(5, 4), dim=1)
    features = {name: torch.randn(5, dim) for name, dim in train.dims.items()}
    torch.testing.assert_close(peers(fused, features), fused)


@pytest.mark.parametrize("kinds", [("kernel_ridge",), ("kernel_ridge", "logistic")])
def test_the_fusion_is_the_mixture(
    kinds: tuple[PeerKind, ...], train: Dataset, validation: Dataset, test: Dataset
) -> None:
    found = fit("nmcl", train, validation, VENUES, quick(members=1, peers=kinds))
    peers = found.network.peers
    assert isinstance(peers, Peers)
    assert found.diagnostics["peers"] == pytest.approx(dict(zip(kinds, peers.share[1:].tolist(), strict=True)))
    assert float(peers.share.sum()) == pytest.approx(1.0)
    features = {n: torch.from_numpy(x) for n, x in found.standardizer.apply(test.modalities).items()}
    observed = {n: torch.from_numpy(mask) for n, mask in test.observed.items()}
    with torch.inference_mode():
        whole = found.network(features, observed)
        heads = torch.stack(list(whole.per_modality.values())).exp().mean(dim=0)
        opinions = [heads.log(), *(model(features, {}).log_probability for model in peers.models)]
        parts = [
            share * torch.softmax(factor * opinion, dim=1)
            for share, factor, opinion in zip(peers.share, peers.sharpness, opinions, strict=True)
        ]
    torch.testing.assert_close(whole.log_probability.exp(), torch.stack(parts).sum(dim=0), atol=1e-5, rtol=1e-4)


def test_masked_rows_look_the_same_to_the_peers(train: Dataset, validation: Dataset) -> None:
    settings = quick(missing="masked")
    lost = {**validation.observed, "words": np.zeros(len(validation), bool)}
    moved = {**validation.modalities, "words": validation.modalities["words"] + 5}
    found = fit("nmcl", train, replace(validation, observed=lost), VENUES, settings)
    first, second = (found.predict(x, lost).probability for x in (validation.modalities, moved))
    np.testing.assert_array_equal(first, second)
