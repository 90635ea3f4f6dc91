"""DARE: concepts of each modality, made similar within a class and different between classes, then a shallow net.

Nie et al., "Enhancing Micro-video Understanding by Harnessing External Sounds", ACM MM 2017; equation numbers are
those of "Multimodal Learning toward Micro-Video Understanding" (2019), section 5. Our interpretations:

- a^m = D^m x^m with a trained D^m, and an offset, for every modality; the first sum of eq. 5.1 is then 0. The source
  has concepts for sound only and leaves the other modalities unchanged, so eq. 5.3 would train nothing without outside
  sounds.
- a_i^T a_j of eq. 5.3 is divided by the square root of the width of a; otherwise the sigmoid saturates from the start.
- Partners of eq. 5.6 are drawn within the mini-batch, so memory is bounded by its size; they are drawn without
  replacement, and a row that is alone in its class has no positive ones. delta_m is the median distance.
- All terms are means over rows or pairs, where the source has sums.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn
from torch.nn import functional

from nmcl.model.base import Epoch, Features, Mask, Output, Shape
from nmcl.model.baselines.tagged_sounds import read_tagged_sounds
from nmcl.model.data import Dataset
from nmcl.model.layers import xavier_linear
from nmcl.model.losses import cross_entropy
from nmcl.model.train import Network, TrainSettings
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.progress import Progress

SPREAD_ROWS = 1024
"""Largest number of training rows used for the median distance of eq. 5.6."""


@dataclass(frozen=True)
class DareLiteSettings:
    """Frozen settings of DARE without outside sounds, with the source's values where it gives any.

    On 980 training rows of three views none of twelve other choices gained more than 0.3 points of validation macro-F1,
    about as much as another random seed changes.
    """

    n_concepts: Annotated[int, Ge(1), Le(65536), Reference(313)] = 313
    """Width K' of each a^m; the source's sounds have 313 tags."""
    hidden: Annotated[int, Ge(1), Le(65536), Reference(1024)] = 1024
    """Hidden width."""
    dropout: Annotated[float, Ge(0), Lt(1), Reference(0.1)] = 0.1
    """Dropout rate of a and of the hidden layer."""
    n_partners: Annotated[int, Ge(1), Reference(5)] = 5
    """S of eq. 5.6, the number of positive and of negative partners per row; the source does not give it."""
    similarity_weight: Annotated[float, Ge(0), Reference(1.0)] = 1.0
    """Weight of J2."""
    cross_entropy_weight: Annotated[float, Ge(0), Reference(0.0)] = 0.0
    """Weight of a cross-entropy added to J3, which is not in the source."""
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class DareSettings(DareLiteSettings):
    """Frozen settings of DARE with the outside sounds of J1; `n_concepts` must be their number of tags."""

    sounds: Annotated[str | None, Reference(None)] = None
    """Path of the `.npz` file that `read_tagged_sounds` describes. Only training reads it."""
    concept_weight: Annotated[float, Ge(0), Reference(1.0)] = 1.0
    """Weight of J1."""


class DareLite(Network):
    """DARE without outside sounds, trained on J2 + J3."""

    spread: Tensor

    def __init__(self, shape: Shape, settings: DareLiteSettings) -> None:
        super().__init__()
        self.settings = settings
        self.training_settings = settings.train
        self.names = list(shape.dims)
        self.maps = nn.ModuleList(xavier_linear(n_features, settings.n_concepts) for n_features in shape.dims.values())
        self.hidden = xavier_linear(settings.n_concepts * len(self.names), settings.hidden)
        self.venues = xavier_linear(settings.hidden, shape.n_classes)
        self.dropout = nn.Dropout(settings.dropout)
        self.register_buffer("spread", torch.ones(len(self.names)))  # delta_m, in standardised units

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        self.spread.copy_(torch.stack([median_distance(torch.from_numpy(x)) for x in train.modalities.values()]))
        return super().fit(train, validation, seed, progress)

    def forward(self, features: Features, observed: Mask) -> Output:
        return Output(self._decide(self._concepts(features)))

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return J2 + J3, plus the cross-entropy if it has a weight."""
        settings, concepts = self.settings, self._concepts(features)
        log_probability = self._decide(concepts)
        truth = functional.one_hot(label, log_probability.shape[1])
        loss = 0.5 * (truth - log_probability.exp()).square().sum(dim=1).mean()  # eq. 5.9, on the softmax
        loss = loss + settings.cross_entropy_weight * cross_entropy(log_probability, label).mean()
        if settings.similarity_weight:
            kernel = affinity([features[name] for name in self.names], self.spread)
            loss = loss + settings.similarity_weight * similarity(concepts, kernel, label, settings.n_partners)
        return loss

    def _concepts(self, features: Features) -> Tensor:
        """Return the concepts a, shape (N, M K')."""
        return torch.cat([d(features[name]) for d, name in zip(self.maps, self.names, strict=True)], dim=1)

    def _decide(self, concepts: Tensor) -> Tensor:
        """Return the log-probabilities of eq. 5.7 and 5.8 with one hidden layer, the source's best."""
        hidden = torch.relu(self.hidden(self.dropout(concepts)))
        return torch.log_softmax(self.venues(self.dropout(hidden)), dim=1)


class Dare(DareLite):
    """DARE with outside sounds, trained on J1 + J2 + J3."""

    settings: DareSettings

    def __init__(self, shape: Shape, settings: DareSettings) -> None:
        super().__init__(shape, settings)
        # Outside sounds are needed for training only: they are no buffer, so that checkpoints do not store them.
        self._outside: tuple[nn.Module, Tensor, Tensor] | None = None

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        """Read the outside sounds, then train as any network.

        Raises:
            ModelError: `sounds` is not set, or the sounds do not fit the model.
        """
        if self.settings.sounds is None:
            raise ModelError(
                "dare learns from tagged sounds, and its setting `sounds` names no file; set it to an .npz file of "
                "features with tags, or train dare_lite, which needs none"
            )
        sounds = read_tagged_sounds(Path(self.settings.sounds), train.dims, self.settings.n_concepts)
        concept_map = self.maps[self.names.index(sounds.modality)]
        self._outside = concept_map, torch.from_numpy(sounds.features), torch.from_numpy(sounds.tags)
        try:
            return super().fit(train, validation, seed, progress)
        finally:
            self._outside = None

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return J1 + J2 + J3, with J1 on as many random outside rows as the batch has rows."""
        loss = super().loss(features, observed, label)
        if self._outside is None:
            raise ModelError("the loss of dare needs the outside sounds that fit reads; call fit")
        concept_map, outside, tags = self._outside
        rows = torch.randint(len(outside), (len(label),))
        miss: Tensor = concept_map(outside[rows].to(label.device)) - tags[rows].to(label.device)
        return loss + self.settings.concept_weight * miss.square().sum(dim=1).mean()  # eq. 5.1, second sum


def median_distance(rows: Tensor) -> Tensor:
    """Return the median Euclidean distance of pairs among at most SPREAD_ROWS random rows, a scalar; 1 if it is 0."""
    distance = functional.pdist(rows[torch.randperm(len(rows))[:SPREAD_ROWS]])
    median = distance.median() if len(distance) else rows.new_zeros(())
    return torch.where(median > 0, median, torch.ones_like(median))


@torch.no_grad()
def affinity(modalities: list[Tensor], spread: Tensor) -> Tensor:
    """Return s_ij of eq. 5.6: mean over modalities of exp(-||x_i - x_j||^2 / delta_m^2), shape (N, N), in 0..1."""
    kernels = [torch.exp(-((torch.cdist(x, x) / delta) ** 2)) for x, delta in zip(modalities, spread, strict=True)]
    return torch.stack(kernels).mean(dim=0)


@torch.no_grad()
def partners(kernel: Tensor, allowed: Tensor, n_partners: int) -> tuple[Tensor, Tensor]:
    """Draw at most S partners per row without replacement, with probability proportional to the kernel.

    Adding Gumbel noise to the logarithms and taking the S largest implements this draw.

    Args:
        kernel: shape (N, N), >= 0.
        allowed: which pairs may be drawn, shape (N, N), bool.

    Returns:
        Columns, shape (N, min(S, N)), int64, and which of them were drawn, bool.
    """
    tiny = torch.finfo(kernel.dtype).tiny
    noise = -torch.empty_like(kernel).exponential_().clamp_min(tiny).log()
    key = (kernel.clamp_min(tiny).log() + noise).masked_fill(~allowed, -torch.inf)
    best = key.topk(min(n_partners, len(key)), dim=1)
    return best.indices, torch.isfinite(best.values)


def similarity(concepts: Tensor, kernel: Tensor, label: Tensor, n_partners: int) -> Tensor:
    """Return J2 of eq. 5.3 to 5.5: mean of -log sigmoid(gamma_ij a_i^T a_j / sqrt(width)) over the drawn pairs, nats.

    gamma is +1 for partners of the same class and -1 for others.
    """
    same = label[:, None] == label
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    product = concepts @ concepts.T / concepts.shape[1] ** 0.5
    total: Tensor = product.new_zeros(())
    count: Tensor = product.new_zeros(())
    for gamma, allowed in ((1.0, same & ~itself), (-1.0, ~same)):
        columns, drawn = partners(kernel, allowed, n_partners)
        total = total - (functional.logsigmoid(gamma * product.gather(1, columns)) * drawn).sum()
        count = count + drawn.sum()
    return total / count.clamp_min(1)
