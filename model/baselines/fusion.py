"""Base classes of early fusion, before one classifier, and late fusion, after one classifier per modality."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nmcl.model.base import Features, Mask, Output
from nmcl.model.losses import cross_entropy, late_fusion
from nmcl.model.train import Network, TrainSettings


class EarlyNetwork(Network):
    """Early fusion: one classifier on the concatenated modalities. Completed vectors count as observed."""

    def __init__(
        self, names: Sequence[str], classifier: nn.Module, train: TrainSettings, smoothing: float = 0.0
    ) -> None:
        """Create the network.

        Args:
            names: the modalities.
            classifier: maps (N, sum of D_m) to logits (N, K).
            train: training settings.
            smoothing: share of the target that is spread over all classes.
        """
        super().__init__()
        self.names = list(names)
        self.classifier = classifier
        self.training_settings = train
        self.smoothing = smoothing

    def forward(self, features: Features, observed: Mask) -> Output:
        logits = self.classifier(torch.cat([features[name] for name in self.names], dim=1))
        return Output(torch.log_softmax(logits, dim=1))

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return the mean cross-entropy, nats."""
        return cross_entropy(self(features, observed).log_probability, label, self.smoothing).mean()


class LateNetwork(Network):
    """Late fusion: the mean of one classifier per modality. Completed vectors count as observed."""

    def __init__(self, names: Sequence[str], classifiers: Sequence[nn.Module], train: TrainSettings) -> None:
        """Create the network from one classifier per name, each from (N, D_m) to logits (N, K)."""
        super().__init__()
        self.names = list(names)
        self.classifiers = nn.ModuleList(classifiers)
        self.training_settings = train

    def forward(self, features: Features, observed: Mask) -> Output:
        return late_output(
            {
                name: torch.log_softmax(classifier(features[name]), dim=1)
                for name, classifier in zip(self.names, self.classifiers, strict=True)
            }
        )

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return the mean cross-entropy of the branches, nats; branches are trained separately and fused afterwards."""
        branches = self(features, observed).per_modality.values()
        return torch.stack([cross_entropy(branch, label).mean() for branch in branches]).mean()


def late_output(branches: dict[str, Tensor]) -> Output:
    """Return the mean of the modalities' distributions, from log-probabilities of shape (N, K)."""
    first = next(iter(branches.values()))
    shares = first.new_full((len(first), len(branches)), 1 / len(branches))
    return Output(late_fusion(list(branches.values()), shares), branches)
