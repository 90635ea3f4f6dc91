"""The cooperative net: relation scores divide host and guest features into consistent and complementary parts.

Equations are those of Wei et al., "Neural Multimodal Cooperative Learning Toward Micro-Video Understanding",
IEEE TIP 29 (2020). Host h is one modality, guest g the concatenation of the others (eq. 2).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nmcl.model.layers import xavier_linear

GateKind = Literal["sigmoid", "softmax_scaled", "paper"]
"""How relation scores are computed and thresholded.

- `paper`: eq. 4 to 8 as printed, w = 50. The scores of one row sum to 1, so with hundreds of features all
  are near 0: consistent features vanish and complementary ones pass unchanged. Kept to reproduce the paper.
- `softmax_scaled`: the softmax times the number of features (mean 1), with a threshold of about 1 and the
  weight clamped to 1.
- `sigmoid`: each score is a sigmoid in 0..1, as the text asks ("the degree reaches the highest at 1 and the
  lowest at 0"), with a threshold of about .5.
"""
ComplementKind = Literal["exclusive", "remainder"]
"""How the complementary weight is computed.

- `remainder`: 1 - gamma, eq. 8. A consistent feature then stays in the complementary part with weight 1 - s,
  which contradicts eq. 7.
- `exclusive`: (1 - s) (1 - gate), the differentiable form of eq. 7.
"""
SLOPE: dict[GateKind, float] = {"sigmoid": 10.0, "softmax_scaled": 5.0, "paper": 50.0}
"""w of eq. 8: 50 is the paper's value; the others make the gate equally selective for their ranges of scores."""


def scores(logits: Tensor, kind: GateKind) -> Tensor:
    """Return the relation scores of eq. 4 and 5, shape (N, D_o): in 0..1, or with mean 1 for `softmax_scaled`."""
    if kind == "sigmoid":
        return torch.sigmoid(logits)
    softmax = torch.softmax(logits, dim=1)
    return softmax if kind == "paper" else softmax * logits.shape[1]


@dataclass(frozen=True)
class Weights:
    """Consistent and complementary weights of each feature, arrays of shape (N, D_o)."""

    score: Tensor
    gate: Tensor
    """Gate in 0..1; near 1 where the score is above the threshold."""
    consistent: Tensor
    """gamma, 0..1."""
    complementary: Tensor
    """delta, 0..1."""


def divide(score: Tensor, threshold: Tensor, kind: GateKind, complement: ComplementKind) -> Weights:
    """Compute the weights by eq. 8 (`remainder`) or by the differentiable form of eq. 6 and 7 (`exclusive`)."""
    gate = torch.sigmoid(SLOPE[kind] * (score - threshold))
    weight = score.clamp(max=1.0)
    consistent = weight * gate
    complementary = 1 - consistent if complement == "remainder" else (1 - weight) * (1 - gate)
    return Weights(score, gate, consistent, complementary)


class Relation(nn.Module):
    """Scores one side (host or guest) against all features and divides it: eq. 4 to 8 for one o in {h, g}.

    Equation 4 has a single linear layer, but its text describes a hidden layer. `hidden` is None for the former, or
    the width of the latter.
    """

    def __init__(
        self,
        n_side: int,
        n_all: int,
        kind: GateKind,
        complement: ComplementKind,
        hidden: int | None = None,
        gain: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.kind: GateKind = kind
        self.complement: ComplementKind = complement
        self.inner = xavier_linear(n_all, hidden) if hidden else None
        self.outer = xavier_linear(hidden or n_all, n_side, gain)
        # A sigmoid keeps the threshold of eq. 6 in 0..1. The other kinds initialise it to their mean score.
        start = {"sigmoid": 0.0, "softmax_scaled": 1.0, "paper": 1.0 / n_side}[kind]
        self.raw_threshold = nn.Parameter(torch.tensor(start))

    @property
    def threshold(self) -> Tensor:
        """The threshold xi of eq. 6."""
        return torch.sigmoid(self.raw_threshold) if self.kind == "sigmoid" else self.raw_threshold

    def forward(self, everything: Tensor) -> Weights:
        """Compute the weights from [host, guest], shape (N, D); the weight matrix is full, so column order is free."""
        if self.inner is not None:
            everything = self.dropout(torch.relu(self.inner(everything)))
        return divide(scores(self.outer(everything), self.kind), self.threshold, self.kind, self.complement)


@dataclass(frozen=True)
class RelationSettings:
    """Frozen settings of the relation scores."""

    gate: GateKind
    complement: ComplementKind
    hidden: int | None
    """Width of the scoring net's hidden layer; None for eq. 4 as printed, a single linear layer."""
    gain: float
    """Xavier gain of the scoring net's last layer."""


@dataclass(frozen=True)
class Components:
    """Consistent and complementary parts of the host and guest features of N rows."""

    consistent: tuple[Tensor, Tensor]
    """beta_h (N, D_h) and beta_g (N, D_g) of eq. 9."""
    complementary: tuple[Tensor, Tensor]
    """alpha_h and alpha_g of eq. 9, with the same shapes."""
    weights: tuple[Weights, Weights]
    auxiliary: tuple[Tensor, Tensor]
    """log p_h and log p_g of eq. 12, shape (N, K)."""


class CooperativeNet(nn.Module):
    """Cooperative net of one host modality: eq. 2 to 9 and 12; `nmcl.model.nmcl.composition` has eq. 10 and 11."""

    def __init__(self, n_host: int, n_guest: int, n_classes: int, dropout: float, relation: RelationSettings) -> None:
        super().__init__()
        options = (relation.gate, relation.complement, relation.hidden, relation.gain, dropout)
        self.host = Relation(n_host, n_host + n_guest, *options)
        self.guest = Relation(n_guest, n_host + n_guest, *options)
        self.host_classifier = xavier_linear(n_host, n_classes)
        self.guest_classifier = xavier_linear(n_guest, n_classes)

    def forward(self, host: Tensor, guest: Tensor) -> Components:
        """Divide host (N, D_h) and guest (N, D_g) into their parts."""
        everything = torch.cat([host, guest], dim=1)
        on_host, on_guest = self.host(everything), self.guest(everything)
        beta_h, beta_g = host * on_host.consistent, guest * on_guest.consistent
        return Components(
            consistent=(beta_h, beta_g),
            complementary=(host * on_host.complementary, guest * on_guest.complementary),
            weights=(on_host, on_guest),
            auxiliary=(
                torch.log_softmax(self.host_classifier(beta_h), dim=1),
                torch.log_softmax(self.guest_classifier(beta_g), dim=1),
            ),
        )
