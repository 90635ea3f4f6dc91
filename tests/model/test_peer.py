"""The peer: its share and sharpness against a slow search, and the fusion against the formula."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from model.base import Shape
from model.calibration import likeliest_share, sharpest
from model.data import Dataset
from model.peer import PEERS, SHARES, Peer, PeerKind
from model.trained import fit
from tests.model.conftest import VENUES, quick


def decisions(seed: int, right: float, boldness: float) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (500, 4) that are right for a share of the rows, and the labels."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 4, 500)
    named = np.where(random.random(500) < right, label, random.integers(0, 4, 500))
    return log_softmax(boldness * (np.eye(4)[named] + 0.3 * random.normal(size=(500, 4))), axis=1), label


def mean_likelihood(first: np.ndarray, second: np.ndarray, label: np.ndarray, share: float) -> float:
    rows = np.arange(len(label))
    mixture = (1 - share) * np.exp(first) + share * np.exp(second)
    return float(np.log(mixture[rows, label]).mean())


def test_the_share_is_the_likeliest() -> None:
    label = decisions(0, 0.9, 3.0)[1]
    first = decisions(0, 0.9, 3.0)[0]
    second = np.roll(decisions(0, 0.8, 3.0)[0], 7, axis=0)
    second[:250] = first[:250]
    slow = max(SHARES, key=lambda share: mean_likelihood(first, second, label, share))
    assert likeliest_share(first, second, label, SHARES) == slow
    assert likeliest_share(first, np.full((500, 4), np.log(0.25)), label, SHARES) < 0.2


def test_too_cautious_a_model_is_sharpened() -> None:
    log_probability, label = decisions(0, 0.9, 0.5)
    factor = sharpest(log_probability, label)
    rows = np.arange(500)
    grid = np.linspace(0.1, 10, 991)
    slow = grid[np.argmax([log_softmax(f * log_probability, axis=1)[rows, label].mean() for f in grid])]
    assert factor > 2
    np.testing.assert_allclose(factor, slow, atol=0.02)


def test_without_a_share_the_networks_decide_alone(train: Dataset) -> None:
    peer = Peer(Shape(train.dims, VENUES), "kernel_ridge")
    fused = torch.log_softmax(torch.randn(5, 4), dim=1)
    features = {name: torch.randn(5, dim) for name, dim in train.dims.items()}
    torch.testing.assert_close(peer(fused, features), fused)


@pytest.mark.parametrize("kind", list(PEERS))
def test_the_fusion_is_the_mixture(kind: PeerKind, train: Dataset, validation: Dataset, test: Dataset) -> None:
    found = fit("nmcl", train, validation, VENUES, quick(members=1, peer=kind))
    peer = found.network.peer
    assert isinstance(peer, Peer)
    assert found.diagnostics["peer"] == float(peer.share)
    features = {n: torch.from_numpy(x) for n, x in found.standardizer.apply(test.modalities).items()}
    observed = {n: torch.from_numpy(mask) for n, mask in test.observed.items()}
    with torch.inference_mode():
        whole = found.network(features, observed)
        heads = torch.stack(list(whole.per_modality.values())).exp().mean(dim=0)
        own = peer.model(features, {}).log_probability
        parts = [
            torch.softmax(factor * log_probability, dim=1)
            for factor, log_probability in zip(peer.sharpness, (heads.log(), own), strict=True)
        ]
    expected = (1 - peer.share) * parts[0] + peer.share * parts[1]
    torch.testing.assert_close(whole.log_probability.exp(), expected, atol=1e-5, rtol=1e-4)


def test_masked_rows_look_the_same_to_the_peer(train: Dataset, validation: Dataset) -> None:
    settings = quick(missing="masked")
    lost = {**validation.observed, "words": np.zeros(len(validation), bool)}
    moved = {**validation.modalities, "words": validation.modalities["words"] + 5}
    found = fit("nmcl", train, replace(validation, observed=lost), VENUES, settings)
    first, second = (found.predict(x, lost).probability for x in (validation.modalities, moved))
    np.testing.assert_array_equal(first, second)
