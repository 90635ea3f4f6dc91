"""Several NMCL networks in one decision, with peers of another kind beside them.

Not in the paper, which trains one network. Networks that differ in their random start and in what dropout hid from them
err on different rows, so the mean of their distributions is right more often than one of them, and depends less on
the seed (Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS
2017). It carries eq. 18 on: from the mean over hosts to the mean over hosts and networks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nmcl.model.base import (
    Epoch,
    Features,
    Mask,
    Output,
    Shape,
)
from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings
from nmcl.model.nmcl.stacking import Peers
from nmcl.model.train import Network, decide
from nmcl.pipeline.progress import Progress


class Committee(Network):
    """`members` networks trained side by side on the same batches, stopped where their common decision is best."""

    members: nn.ModuleList
    recordable = True

    def __init__(self, shape: Shape, settings: NMCLSettings) -> None:
        super().__init__()
        self.settings = settings
        self.training_settings = settings.train
        self.members = nn.ModuleList(NMCL(shape, settings) for _ in range(settings.members))
        self.peers = Peers(shape, settings.peers) if settings.peers else None

    def forward(self, features: Features, observed: Mask) -> Output:
        outputs = [member(features, observed) for member in self.networks]
        fused = mean_of([output.log_probability for output in outputs])
        if self.peers is not None:
            fused = self.peers(fused, self.networks[0].trusted(features, observed))
        hosts = outputs[0].per_modality
        return Output(fused, {host: mean_of([output.per_modality[host] for output in outputs]) for host in hosts})

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Mean of the members' own losses: none learns to rely on another."""
        return torch.stack([member.loss(features, observed, label) for member in self.networks]).mean()

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        history = super().fit(train, validation, seed, progress)
        if self.peers is not None:
            fused = torch.cat([o.log_probability for o in decide(self, validation, torch.device("cpu"))]).numpy()
            self.peers.fit(self._seen(train), self._seen(validation), fused, seed, progress)
        return history

    @property
    def networks(self) -> Sequence[NMCL]:
        """The members, typed."""
        return tuple(self.members)  # type: ignore[arg-type]

    def _seen(self, rows: Dataset) -> Dataset:
        """The rows with zeros, the training mean, where a missing modality is not to be trusted."""
        if self.settings.missing == "completed":
            return rows
        masked = {name: array * rows.observed[name][:, None] for name, array in rows.modalities.items()}
        return Dataset(masked, rows.observed, rows.label)

    @torch.no_grad()
    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """`gates`: as NMCL's own, means over the members; `peers`: the share of each in the decision."""
        gates = mean_of_trees([member.diagnose(features, observed) for member in self.networks])
        return {"gates": gates, "peers": self.peers.shares() if self.peers else {}}


def mean_of(log_probabilities: Sequence[Tensor]) -> Tensor:
    """Log of the mean of distributions, each shape (N, K)."""
    if len(log_probabilities) == 1:
        return log_probabilities[0]
    stacked = torch.stack(list(log_probabilities))
    return torch.logsumexp(stacked, dim=0) - torch.log(stacked.new_tensor(len(stacked)))


def mean_of_trees(trees: Sequence[Any]) -> Any:
    """Of equal trees of numbers: the tree of their means."""
    if isinstance(trees[0], Mapping):
        return {name: mean_of_trees([tree[name] for tree in trees]) for name in trees[0]}
    return sum(trees) / len(trees)
