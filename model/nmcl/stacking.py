"""NMCL stacked with models in closed form, its peers, which join the late fusion as far as they help.

Not in the paper. Stochastic gradients on few rows do not find everything: a kernel machine learns a smoother boundary,
one whose distances are measured within venues sees directions of small variance, a well regularised logistic regression
follows them; and all err on other rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nmcl.model.base import Classifier, Epoch, Features, Mask, Output, Shape
from nmcl.model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from nmcl.model.baselines.logistic import Logistic, LogisticSettings
from nmcl.model.baselines.mahalanobis import Mahalanobis
from nmcl.model.calibration import inverse_temperature, pool_weights
from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings, PeerKind
from nmcl.model.train import Network, predict_batches
from nmcl.pipeline.addressing import at_references
from nmcl.pipeline.progress import Progress

PEERS: dict[PeerKind, Callable[[Shape], Classifier]] = {
    "kernel_ridge": lambda shape: KernelRidge(shape, at_references(KernelRidgeSettings)),
    "mahalanobis": lambda shape: Mahalanobis(shape, at_references(KernelRidgeSettings)),
    "logistic": lambda shape: Logistic(shape, at_references(LogisticSettings)),
}
"""Not with their defaults: the address of a run names its peers, not their settings."""
PRIOR = 10.0
"""Of `pool_weights`; from 5 to 30 macro-F1 stays within a few tenths of a point, on splits of nine sets of features."""
LEAST = -12.0
"""Log-probability: no voice can forbid a venue, nor one that is turned around force it."""


class Peers(nn.Module):
    """log p_k = sum_i sum_j W_ikj log p_ij + const over the network, which comes first, and each peer, all sharpened:
    p_i = softmax(s_i log p_i).

    Before `fit` the network has all the weight.
    """

    weight: Tensor
    """W, shape (1 + number of peers, K, K)."""
    sharpness: Tensor
    """Shape (1 + number of peers,)."""

    def __init__(self, shape: Shape, kinds: Sequence[PeerKind]) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.models = nn.ModuleList(PEERS[kind](shape) for kind in kinds)
        self.register_buffer("weight", torch.zeros(1 + len(kinds), shape.n_classes, shape.n_classes))
        self.weight[0] = torch.eye(shape.n_classes)
        self.register_buffer("sharpness", torch.ones(1 + len(kinds)))

    def fit(self, train: Dataset, validation: Dataset, fused: np.ndarray, seed: int, progress: Progress) -> None:
        """Learn the models from training rows; sharpness and weights by the likelihood of validation rows.

        The factors come first: a cautious model would lose its say to a bold one that is right no more often.

        Args:
            fused: log-probabilities of the validation rows, shape (N, K), by the network.
        """

        def told(stage: str, done: int, total: int, note: str = "") -> None:
            progress("train: peers", done, total, note)

        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        opinions = [torch.from_numpy(fused)]
        for model in self.models:
            model.fit(train, validation, seed, told)  # type: ignore[operator]  # a Classifier
            with torch.inference_mode():
                opinions.append(model(features, {}).log_probability)
        self.sharpness.copy_(
            torch.tensor([inverse_temperature(opinion.numpy(), validation.label) for opinion in opinions])
        )
        voices = self._sharpened(opinions).double().numpy()
        self.weight.copy_(torch.from_numpy(pool_weights(voices, validation.label, PRIOR)))

    def forward(self, fused: Tensor, features: Features) -> Tensor:
        """Log-probabilities, shape (N, K). Args: fused: those of the network; features: standardised."""
        voices = self._sharpened([fused, *(model(features, {}).log_probability for model in self.models)])
        return torch.log_softmax((voices @ self.weight.mT).sum(dim=0), dim=1)

    def _sharpened(self, opinions: Sequence[Tensor]) -> Tensor:
        """Log-probabilities p_i, shape (1 + number of peers, N, K)."""
        factors = zip(self.sharpness, opinions, strict=True)
        return torch.stack([torch.log_softmax(factor * opinion, dim=1) for factor, opinion in factors]).clamp(min=LEAST)

    def shares(self) -> dict[str, float]:
        """Of what voices count for the venues that they name, by name, 0..1 unless one errs more often than by chance;
        the rest is the network's."""
        own = self.weight.diagonal(dim1=1, dim2=2).sum(dim=1)
        part = own / own.sum()
        return dict(zip(self.kinds, part[1:].tolist(), strict=True))


class StackedNMCL(Network):
    """NMCL and its peers. The network is trained first; then the peers and their weights are fitted."""

    recordable = True

    def __init__(self, shape: Shape, settings: NMCLSettings) -> None:
        super().__init__()
        self.settings = settings
        self.training_settings = settings.train
        self.nmcl = NMCL(shape, settings)
        self.peers = Peers(shape, settings.peers) if settings.peers else None

    def forward(self, features: Features, observed: Mask) -> Output:
        own: Output = self.nmcl(features, observed)
        if self.peers is None:
            return own
        return Output(self.peers(own.log_probability, self.nmcl.trusted(features, observed)), own.per_modality)

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """That of the network alone."""
        return self.nmcl.loss(features, observed, label)

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        history = super().fit(train, validation, seed, progress)
        if self.peers is not None:
            fused = torch.cat(
                [o.log_probability for o in predict_batches(self, validation, torch.device("cpu"))]
            ).numpy()
            self.peers.fit(self._trusted(train), self._trusted(validation), fused, seed, progress)
        return history

    def _trusted(self, rows: Dataset) -> Dataset:
        """The rows with zeros, the training mean, where a missing modality is not to be trusted."""
        if self.settings.missing == "completed":
            return rows
        masked = {name: array * rows.observed[name][:, None] for name, array in rows.modalities.items()}
        return Dataset(masked, rows.observed, rows.label)

    @torch.no_grad()
    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """`gates`: see `NMCL.diagnose`; `peers`: the share of each in the decision."""
        gates = self.nmcl.diagnose(features, observed)
        return {"gates": gates, "peers": self.peers.shares() if self.peers else {}}
