"""Neural Multimodal Cooperative Learning: one cooperative net and attention head per modality, with late fusion.

Any number of modalities is supported. With one there is no guest: the head works on x^m itself (the paper's Table 3).
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from nmcl.model.base import Features, Mask, Output, Shape
from nmcl.model.layers import xavier_linear
from nmcl.model.losses import ConsistencyKind, cross_entropy, divergence, late_fusion
from nmcl.model.nmcl.attention import AttentionHead
from nmcl.model.nmcl.composition import COMPOSITIONS, CompositionKind
from nmcl.model.nmcl.cooperative import ComplementKind, Components, CooperativeNet, GateKind, RelationSettings, Weights
from nmcl.model.train import Network, TrainSettings
from nmcl.pipeline.addressing import Reference

OPEN, SHUT = 0.9, 0.1
"""Gate values above `OPEN` count as consistent, values below `SHUT` as complementary."""


TRAIN = TrainSettings(learning_rate=5e-3, weight_decay=2.0, max_epochs=30)
"""A learning rate from the paper's grid (lower rates miss signal in low-variance features), and its 30 epochs."""


@dataclass(frozen=True)
class NMCLSettings:
    """Frozen settings of the NMCL network with a corrected gate and divergence; `PAPER` has the printed ones.

    The defaults were tuned on small data sets (235 to 450 training rows, 129 to 1580 features), where regularisation
    is decisive: a narrow scoring net and nearly uniform initial scores mattered most.
    """

    composition: Annotated[CompositionKind, Reference("cooperative")] = "cooperative"
    """How the components are combined: as in NMCL (`cooperative`), or as in one of its variants."""
    gate: Annotated[GateKind, Reference("sigmoid")] = "sigmoid"
    """`sigmoid`, or `paper` for the printed softmax gate."""
    complement: Annotated[ComplementKind, Reference("exclusive")] = "exclusive"
    """`exclusive`, or `remainder` for eq. 8 as printed."""
    relation_hidden: Annotated[Annotated[int, Ge(1)] | None, Reference(16)] = 16
    """Width of the scoring net's hidden layer, which the text of eq. 4 has and its formula lacks; None for no hidden
    layer."""
    relation_gain: Annotated[float, Ge(0), Reference(0.1)] = 0.1
    """Xavier gain of the scoring layer: near 0, all features start with equal instead of random scores."""
    consistency: Annotated[ConsistencyKind, Reference("jeffreys")] = "jeffreys"
    """`jeffreys`, or `paper` for eq. 13."""
    consistency_weight: Annotated[float, Ge(0), Reference(0.1)] = 0.1
    """Weight of the consistency loss in eq. 20, where it is 1."""
    auxiliary_weight: Annotated[float, Ge(0), Reference(0.1)] = 0.1
    """Weight of the cross-entropy of p_h and p_g (eq. 12). Without it nothing supervises them, and constant predictions
    agree best."""
    branch_weight: Annotated[float, Ge(0), Le(1), Reference(1.0)] = 1.0
    """Weight of the mean of the heads' own cross-entropies; the rest is the weight of eq. 19, that of their mixture. In
    the mixture one confident head suppresses the gradients of the others; with 1 each head is trained on its own, and
    only the predictions are fused."""
    hidden: Annotated[int, Ge(1), Le(65536), Reference(256)] = 256
    """Width of the hidden layers of the heads."""
    attention_rank: Annotated[Annotated[int, Ge(1), Le(65536)] | None, Reference(1)] = 1
    """Rank r of the memory's difference from ones, an order of magnitude cheaper at 188 classes and as good on the data
    tried; None for the full memory of eq. 15."""
    normalise: Annotated[bool, Reference(True)] = True
    """Whether to batch-normalise the heads' hidden layer (eq. 16)."""
    shared_class_vectors: Annotated[bool, Reference(False)] = False
    """Whether all modalities share one z_k, as eq. 17 is printed."""
    dropout: Annotated[float, Ge(0), Lt(1), Reference(0.3)] = 0.3
    """Dropout rate of every hidden layer (eq. 4, 10 and 16); the paper gives no rate."""
    input_dropout: Annotated[float, Ge(0), Lt(1), Reference(0.15)] = 0.15
    """Dropout rate of the head's input x^."""
    label_smoothing: Annotated[float, Ge(0), Lt(1), Reference(0.1)] = 0.1
    """Share of the target of eq. 19 that is spread over all classes."""
    missing: Annotated[Literal["completed", "masked"], Reference("completed")] = "completed"
    """`completed` uses the completed vector; `masked` zeroes it and leaves its branch out of eq. 18."""
    modality_dropout: Annotated[float, Ge(0), Lt(1), Reference(0.1)] = 0.1
    """Probability, in training, that a row's modality is replaced by zeros, its mean (never all of them). On 235 videos
    of six classes 0.1 raised the validation accuracy from 0.955 to 0.963 (mean of four seeds): no branch can rely on
    one host."""
    train: TrainSettings = TRAIN


PAPER = NMCLSettings(
    gate="paper",
    complement="remainder",
    relation_hidden=None,
    relation_gain=1.0,
    consistency="paper",
    consistency_weight=1.0,
    auxiliary_weight=0.0,
    branch_weight=0.0,
    attention_rank=None,
    normalise=False,
    shared_class_vectors=True,
    input_dropout=0.0,
    label_smoothing=0.0,
    modality_dropout=0.0,
)
"""Settings for eq. 4 to 20 as printed, with our optimiser settings where the paper gives none."""

DEVIATIONS: dict[str, tuple[str, ...]] = {
    "gate": ("gate",),
    "complement": ("complement",),
    "scoring_net": ("relation_hidden", "relation_gain"),
    "consistency": ("consistency", "consistency_weight"),
    "auxiliary": ("auxiliary_weight",),
    "memory": ("attention_rank",),
    "class_vectors": ("shared_class_vectors",),
    "mixture": ("branch_weight",),
    "normalisation": ("normalise",),
    "regularisation": ("input_dropout", "label_smoothing", "modality_dropout"),
}
"""Differences between the defaults and `PAPER`: the name of each deviation -> its settings."""


def as_printed(deviation: str) -> NMCLSettings:
    """Return the defaults with one deviation from the paper reverted.

    Raises:
        KeyError: there is no deviation of this name.
    """
    return replace(NMCLSettings(), **{name: getattr(PAPER, name) for name in DEVIATIONS[deviation]})


class NMCL(Network):
    """The NMCL network, eq. 2 to 20."""

    recordable = True

    def __init__(self, shape: Shape, settings: NMCLSettings) -> None:
        super().__init__()
        self.settings = settings
        self.training_settings = settings.train
        self.names = list(shape.dims)
        n_all = sum(shape.dims.values())
        relation = RelationSettings(
            settings.gate, settings.complement, settings.relation_hidden, settings.relation_gain
        )
        alone = len(self.names) == 1
        # Lists, not dicts by name: a modality may have any name, a torch submodule may not.
        self.nets = nn.ModuleList(
            CooperativeNet(n, n_all - n, shape.n_classes, settings.dropout, relation)
            for n in ([] if alone else shape.dims.values())
        )
        self.composition = (
            None if alone else COMPOSITIONS[settings.composition](shape.dims, settings.hidden, settings.dropout)
        )
        self.hosts = self.composition.hosts if self.composition else [*self.names]
        widths = self.composition.widths if self.composition else [n_all]
        n_vectors = 1 if settings.shared_class_vectors else len(widths)
        self.class_vectors = nn.ModuleList(xavier_linear(settings.hidden, shape.n_classes) for _ in range(n_vectors))
        self.heads = nn.ModuleList(
            AttentionHead(
                width,
                settings.hidden,
                shape.n_classes,
                settings.input_dropout,
                settings.dropout,
                settings.attention_rank,
                settings.normalise,
            )
            for width in widths
        )

    def parts(self, features: Features, observed: Mask) -> list[Components]:
        """Return the parts with each modality as host, in sorted order; empty for a single modality."""
        vectors = list(self.trusted(features, observed).values())
        found = []
        for i, net in enumerate(self.nets):
            guest = torch.cat(vectors[:i] + vectors[i + 1 :], dim=1)  # eq. 2
            found.append(net(vectors[i], guest))
        return found

    def branches(self, features: Features, observed: Mask, parts: list[Components]) -> list[Tensor]:
        """Return the log-probabilities of each head, shape (N, K)."""
        composed = self.composition(parts) if self.composition else list(self.trusted(features, observed).values())
        return [
            head(vector, self.class_vectors[i % len(self.class_vectors)])
            for i, (head, vector) in enumerate(zip(self.heads, composed, strict=True))
        ]

    def forward(self, features: Features, observed: Mask) -> Output:
        branches = self.branches(features, observed, self.parts(features, observed))
        per_modality = {host: branch for host, branch in zip(self.hosts, branches, strict=True) if host is not None}
        return Output(late_fusion(branches, self._shares(observed)), per_modality)

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return the loss of eq. 20 as a mean over rows instead of a sum, weighted by the settings."""
        settings = self.settings
        features, observed = self._drop_modalities(features, observed)
        parts = self.parts(features, observed)
        branches = self.branches(features, observed, parts)
        shares = self._shares(observed)
        mixture = cross_entropy(late_fusion(branches, shares), label, settings.label_smoothing)
        own = torch.stack([cross_entropy(branch, label, settings.label_smoothing) for branch in branches], dim=1)
        total = (1 - settings.branch_weight) * mixture + settings.branch_weight * (shares * own).sum(dim=1)
        for name, part in zip(self.names, parts, strict=False):
            total = total + self._trusted(observed[name]) * self._auxiliary_loss(part, label)
        return total.mean()

    def _auxiliary_loss(self, part: Components, label: Tensor) -> Tensor:
        """Return the loss terms of one host, shape (N,): eq. 13, and the cross-entropy of p_h and p_g."""
        settings = self.settings
        host, guest = part.auxiliary
        supervision = cross_entropy(host, label) + cross_entropy(guest, label)
        agreement = divergence(host, guest, settings.consistency)
        return settings.auxiliary_weight * supervision + settings.consistency_weight * agreement

    def trusted(self, features: Features, observed: Mask) -> Features:
        """Return the modalities in order; with `masked`, missing ones are zero, the training mean."""
        return {name: features[name] * self._trusted(observed[name])[:, None] for name in self.names}

    def _trusted(self, observed: Tensor) -> Tensor:
        """Return which rows of a modality are used, shape (N,), bool."""
        return torch.ones_like(observed) if self.settings.missing == "completed" else observed

    def _shares(self, observed: Mask) -> Tensor:
        """Return the late-fusion weights, shape (N, number of heads); uniform where nothing is observed."""
        everywhere = torch.ones_like(observed[self.names[0]])
        mask = torch.stack([everywhere if h is None else self._trusted(observed[h]) for h in self.hosts], dim=1)
        mask = mask | ~mask.any(dim=1, keepdim=True)
        return mask / mask.sum(dim=1, keepdim=True)

    def _drop_modalities(self, features: Features, observed: Mask) -> tuple[Features, Mask]:
        if not self.settings.modality_dropout or len(self.names) == 1:
            return features, observed
        mask = torch.stack([observed[name] for name in self.names], dim=1)
        kept = torch.rand(mask.shape, device=mask.device) >= self.settings.modality_dropout
        kept = kept | ~(kept & mask).any(dim=1, keepdim=True)
        dropped = {name: features[name] * kept[:, i, None] for i, name in enumerate(self.names)}
        return dropped, {name: observed[name] & kept[:, i] for i, name in enumerate(self.names)}

    @torch.no_grad()
    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """Return `gates`: gate shares, norms and half the Jeffreys divergence of each host, means over the rows."""
        parts = zip(self.names, self.parts(features, observed), strict=False)
        return {"gates": {name: _division(part) for name, part in parts}}


def _division(components: Components) -> dict[str, Any]:
    """Return diagnostics of one host modality: shares in 0..1, norms relative to the undivided vector's, nats."""
    sides = {}
    for side, weights, beta, alpha in zip(
        ("host", "guest"), components.weights, components.consistent, components.complementary, strict=True
    ):
        sides[side] = _side(weights, beta, alpha)
    host, guest = components.auxiliary
    return {**sides, "divergence": float(divergence(host, guest, "jeffreys").mean())}


def _side(weights: Weights, consistent: Tensor, complementary: Tensor) -> dict[str, float]:
    gate = weights.gate
    whole = (consistent.norm() ** 2 + complementary.norm() ** 2).sqrt().clamp_min(1e-12)
    is_open, is_shut = float((gate > OPEN).float().mean()), float((gate < SHUT).float().mean())
    return {
        "open": is_open,
        "shut": is_shut,
        "undecided": 1 - is_open - is_shut,
        "mean_gamma": float(weights.consistent.mean()),
        "consistent_norm": float(consistent.norm() / whole),
        "complementary_norm": float(complementary.norm() / whole),
    }
