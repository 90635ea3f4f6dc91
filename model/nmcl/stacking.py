"""Stacking of NMCL with closed-form models, weighted by how much they help on validation rows.

This is not in the paper. With few rows, gradient descent misses structure: a kernel machine fits a smoother boundary,
one with within-class distances uses directions of small variance, a well regularised logistic regression follows them,
and all of them err on different rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Len
from torch import Tensor, nn

from nmcl.model.base import Classifier, Epoch, Features, Mask, Output, Shape
from nmcl.model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from nmcl.model.baselines.logistic import Logistic, LogisticSettings
from nmcl.model.baselines.mahalanobis import Mahalanobis
from nmcl.model.calibration import inverse_temperature, pool_weights
from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings
from nmcl.model.train import Network, predict_batches
from nmcl.pipeline.addressing import Reference, at_references
from nmcl.pipeline.progress import Progress

StackedKind = Literal["kernel_ridge", "mahalanobis", "logistic"]
STACKED: dict[StackedKind, Callable[[Shape], Classifier]] = {
    "kernel_ridge": lambda shape: KernelRidge(shape, at_references(KernelRidgeSettings)),
    "mahalanobis": lambda shape: Mahalanobis(shape, at_references(KernelRidgeSettings)),
    "logistic": lambda shape: Logistic(shape, at_references(LogisticSettings)),
}
"""Constructors by name. Settings are at their references: the address of a run names these models, not their settings.
"""
ALL_STACKED: tuple[StackedKind, ...] = tuple(STACKED)
PRIOR = 10.0
"""Prior of `pool_weights`; from 5 to 30 macro-F1 stays within a few tenths of a point on splits of nine feature sets.
"""
LEAST = -12.0
"""Lower bound of the members' log-probabilities: none can veto a class, or force one through a negative weight."""


@dataclass(frozen=True)
class StackedSettings(NMCLSettings):
    """Frozen settings of NMCL and of the models stacked with it."""

    stacked_with: Annotated[tuple[StackedKind, ...], Len(1), Reference(ALL_STACKED)] = ALL_STACKED
    """Models stacked with the network, with weights fitted on validation rows."""


class Stacking(nn.Module):
    """Ensemble of the network and other models by stacking.

        log p_k = sum_i sum_j W_ikj log p_ij + const

    The sum runs over the members: the network, which comes first, and each other model. Each is calibrated before by
    its inverse temperature s_i: p_i = softmax(s_i log p_i). Before `fit` the network has all the weight.
    """

    weight: Tensor
    """Stacking weights W, shape (number of members, K, K)."""
    inverse_temperature: Tensor
    """Inverse temperatures s_i, shape (number of members,)."""

    def __init__(self, shape: Shape, kinds: Sequence[StackedKind]) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.models = nn.ModuleList(STACKED[kind](shape) for kind in kinds)
        self.register_buffer("weight", torch.zeros(1 + len(kinds), shape.n_classes, shape.n_classes))
        if not self.weight.is_meta:  # torch would load its compiler for that, which takes seconds
            self.weight[0] = torch.eye(shape.n_classes)
        self.register_buffer("inverse_temperature", torch.ones(1 + len(kinds)))

    def fit(self, train: Dataset, validation: Dataset, fused: np.ndarray, seed: int, progress: Progress) -> None:
        """Fit the models on training rows, then temperatures and weights by the likelihood of validation rows.

        The temperatures come first: otherwise an underconfident model would lose weight to an overconfident one that is
        right no more often.

        Args:
            fused: the network's log-probabilities of the validation rows, shape (N, K).
        """

        def report(stage: str, done: int, total: int, note: str = "") -> None:
            progress("train: stacking", done, total, note)

        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        log_p = [torch.from_numpy(fused)]
        for model in self.models:
            model.fit(train, validation, seed, report)  # type: ignore[operator]  # a Classifier
            with torch.inference_mode():
                log_p.append(model(features, {}).log_probability)
        factors = [inverse_temperature(member.numpy(), validation.label) for member in log_p]
        self.inverse_temperature.copy_(torch.tensor(factors))
        calibrated = self._calibrated(log_p).double().numpy()
        self.weight.copy_(torch.from_numpy(pool_weights(calibrated, validation.label, PRIOR)))

    def forward(self, fused: Tensor, features: Features) -> Tensor:
        """Return log-probabilities, shape (N, K), from those of the network and the standardised features."""
        calibrated = self._calibrated([fused, *(model(features, {}).log_probability for model in self.models)])
        return torch.log_softmax((calibrated @ self.weight.mT).sum(dim=0), dim=1)

    def _calibrated(self, log_p: Sequence[Tensor]) -> Tensor:
        """Return the calibrated log-probabilities log p_i, shape (number of members, N, K)."""
        factors = zip(self.inverse_temperature, log_p, strict=True)
        return torch.stack([torch.log_softmax(factor * member, dim=1) for factor, member in factors]).clamp(min=LEAST)

    def shares(self) -> dict[str, float]:
        """Return each stacked model's share of the diagonal weights by name; the rest is the network's.

        Shares are in 0..1 unless a member is worse than chance.
        """
        own = self.weight.diagonal(dim1=1, dim2=2).sum(dim=1)
        part = own / own.sum()
        return dict(zip(self.kinds, part[1:].tolist(), strict=True))


class StackedNMCL(Network):
    """NMCL stacked with other models. The network is trained first; then the others and the weights are fitted."""

    recordable = True

    def __init__(self, shape: Shape, settings: StackedSettings) -> None:
        super().__init__()
        self.settings = settings
        self.training_settings = settings.train
        self.nmcl = NMCL(shape, settings)
        self.stacking = Stacking(shape, settings.stacked_with)

    def forward(self, features: Features, observed: Mask) -> Output:
        own: Output = self.nmcl(features, observed)
        return Output(self.stacking(own.log_probability, self.nmcl.trusted(features, observed)), own.per_modality)

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return the loss of the network alone."""
        return self.nmcl.loss(features, observed, label)

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        history = super().fit(train, validation, seed, progress)
        outputs = predict_batches(self, validation, torch.device("cpu"))
        fused = torch.cat([output.log_probability for output in outputs]).numpy()
        self.stacking.fit(self._trusted(train), self._trusted(validation), fused, seed, progress)
        return history

    def _trusted(self, rows: Dataset) -> Dataset:
        """Return the rows; with `masked`, missing modalities are zero, the training mean."""
        if self.settings.missing == "completed":
            return rows
        masked = {name: array * rows.observed[name][:, None] for name, array in rows.modalities.items()}
        return Dataset(masked, rows.observed, rows.label)

    @torch.no_grad()
    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """Return `gates`, see `NMCL.diagnose`, and `stacking`, the share of each stacked model in the prediction."""
        return {**self.nmcl.diagnose(features, observed), "stacking": self.stacking.shares()}
