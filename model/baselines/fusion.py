"""The two places at which modalities are put together: before a classifier, or after one of each."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nmcl.model.base import Features, Mask, Output
from nmcl.model.losses import cross_entropy, late_fusion
from nmcl.model.train import Network, TrainSettings


class EarlyNetwork(Network):
    """One classifier of the modalities side by side. Completed vectors are trusted."""

    def __init__(
        self, names: Sequence[str], classifier: nn.Module, train: TrainSettings, smoothing: float = 0.0
    ) -> None:
        """Args: classifier: from (N, sum of D_m) to logits (N, K); smoothing: share of the target spread over all
        venues."""
        super().__init__()
        self.names = list(names)
        self.classifier = classifier
        self.training_settings = train
        self.smoothing = smoothing

    def forward(self, features: Features, observed: Mask) -> Output:
        logits = self.classifier(torch.cat([features[name] for name in self.names], dim=1))
        return Output(torch.log_softmax(logits, dim=1))

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Cross-entropy, nats."""
        return cross_entropy(self(features, observed).log_probability, label, self.smoothing).mean()


class LateNetwork(Network):
    """One classifier per modality, and the mean of their distributions. Completed vectors are trusted."""

    def __init__(self, names: Sequence[str], classifiers: Sequence[nn.Module], train: TrainSettings) -> None:
        """Args: classifiers: by modality, from (N, D_m) to logits (N, K)."""
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
        """Mean over the modalities of each branch's own cross-entropy, nats: the branches are classifiers of their own,
        fused only in what they say."""
        branches = self(features, observed).per_modality.values()
        return torch.stack([cross_entropy(branch, label).mean() for branch in branches]).mean()


def late_output(branches: dict[str, Tensor]) -> Output:
    """The mean of the modalities' distributions, from their log-probabilities of shape (N, K)."""
    first = next(iter(branches.values()))
    shares = first.new_full((len(first), len(branches)), 1 / len(branches))
    return Output(late_fusion(list(branches.values()), shares), branches)
