"""The two losses of eq. 20: divergence of the consistent parts, and cross-entropy of the fused prediction."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

ConsistencyKind = Literal["jeffreys", "paper", "none"]
"""How the loss penalises disagreement of p_h and p_g of eq. 12.

- `paper`: eq. 13 as printed, sum (p_g log p_h - p_h log p_g). It is 0 where they agree but has no minimum
  there and no lower bound; minimising it drives the two apart. Kept to reproduce the paper.
- `jeffreys`: half of sum (p_h - p_g) (log p_h - log p_g), the symmetric divergence whose cross terms eq. 13
  has, one with the opposite sign. >= 0, and 0 only where they agree.
- `none`: no such term.
"""


def divergence(log_p_host: Tensor, log_p_guest: Tensor, kind: ConsistencyKind) -> Tensor:
    """Return the divergence per row, shape (N,), nats, from log-probabilities of shape (N, K)."""
    p_host, p_guest = log_p_host.exp(), log_p_guest.exp()
    if kind == "paper":
        return (p_guest * log_p_host - p_host * log_p_guest).sum(dim=1)
    if kind == "jeffreys":
        return 0.5 * ((p_host - p_guest) * (log_p_host - log_p_guest)).sum(dim=1)
    return log_p_host.new_zeros(len(log_p_host))


def late_fusion(branches: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Return the log of the mixture of the branches' distributions, shape (N, K).

    Equation 18 is a sum, so its "probabilities" sum to M; the mean is meant, with the same gradient and argmax.

    Args:
        branches: M log-probabilities of shape (N, K).
        weights: shape (N, M), >= 0, rows sum to 1.
    """
    return torch.logsumexp(torch.stack(list(branches), dim=1) + weights.log()[:, :, None], dim=1)


def cross_entropy(log_probability: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of eq. 19 per row, shape (N,), nats, with label smoothing over all K classes."""
    own = -log_probability.gather(1, label[:, None]).squeeze(1)
    if smoothing == 0.0:
        return own
    return (1 - smoothing) * own - smoothing * log_probability.mean(dim=1)
