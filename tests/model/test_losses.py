"""Both divergences against transcriptions, the mixture against its sum, and what eq. 13 does that it should
not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nmcl.model.losses import cross_entropy, divergence, late_fusion
from tests.model import reference


def distributions(n: int, k: int, seed: int) -> torch.Tensor:
    return torch.log_softmax(3 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed)).double(), dim=1)


@given(k=st.integers(2, 8), seed=st.integers(0, 99))
def test_divergences_follow_their_formulae(k: int, seed: int) -> None:
    host, guest = distributions(3, k, seed), distributions(3, k, seed + 1)
    for kind, formula in (("paper", reference.paper_divergence), ("jeffreys", reference.half_jeffreys)):
        found = divergence(host, guest, kind)  # type: ignore[arg-type]
        expected = [formula(h.exp().numpy(), g.exp().numpy()) for h, g in zip(host, guest, strict=True)]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert bool((divergence(host, guest, "jeffreys") >= -1e-12).all())
    assert bool((divergence(host, guest, "none") == 0).all())


def test_equation_13_rewards_disagreement_and_jeffreys_does_not() -> None:
    uniform = torch.full((1, 188), 1 / 188, dtype=torch.float64).log()
    peaked = torch.full((1, 188), 1e-4, dtype=torch.float64)
    peaked[0, 0] = 1 - 187e-4
    peaked = peaked.log()
    assert float(divergence(peaked, uniform, "paper")) == pytest.approx(-3.93, abs=0.01)
    assert float(divergence(peaked, uniform, "jeffreys")) == pytest.approx(8.97 / 2, abs=0.01)
    assert float(divergence(uniform, uniform, "paper")) == pytest.approx(0.0)


def test_late_fusion_is_the_weighted_mean_of_distributions() -> None:
    branches = [distributions(4, 5, seed) for seed in range(3)]
    weights = torch.tensor([[1 / 3] * 3, [0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]).double()
    weights = weights / weights.sum(dim=1, keepdim=True)
    fused = late_fusion(branches, weights).exp()
    expected = sum(weights[:, m, None] * branch.exp() for m, branch in enumerate(branches))
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(fused.sum(dim=1), torch.ones(4, dtype=torch.float64))


def test_a_branch_without_weight_gets_no_gradient_and_no_nan() -> None:
    branches = [distributions(2, 5, seed).requires_grad_() for seed in range(2)]
    late_fusion(branches, torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double())[:, 0].sum().backward()
    assert branches[1].grad is not None
    assert bool((branches[1].grad == 0).all())
    assert bool(torch.isfinite(branches[0].grad).all())  # type: ignore[arg-type]


def test_cross_entropy_with_and_without_smoothing() -> None:
    log_p = distributions(3, 4, 0)
    label = torch.tensor([0, 3, 1])
    torch.testing.assert_close(
        cross_entropy(log_p, label), torch.nn.functional.nll_loss(log_p, label, reduction="none")
    )
    expected = torch.nn.functional.cross_entropy(log_p, label, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(log_p, label, 0.2), expected)
