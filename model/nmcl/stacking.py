"""Stacking of NMCL with other models, weighted by how much they help on rows that they were not fitted to.

This is not in the paper. With few rows, gradient descent misses structure: a kernel machine fits a smoother boundary,
one with within-class distances uses directions of small variance, well regularised logistic regressions follow them,
trees find what is not smooth, n-grams keep the rare words, and all of them err on different rows.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Len
from torch import Tensor, nn

from nmcl.model.base import TERMS, Classifier, Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.baselines.forest import ForestLate, ForestSettings
from nmcl.model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from nmcl.model.baselines.logistic import Logistic, LogisticSettings
from nmcl.model.baselines.logistic_late import LogisticLate
from nmcl.model.baselines.mahalanobis import Mahalanobis
from nmcl.model.baselines.ngrams import NgramBayes, NgramBayesSettings, NgramLogistic, NgramLogisticSettings
from nmcl.model.calibration import inverse_temperature, pair_weights, pool_weights
from nmcl.model.data import Dataset, joined
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings
from nmcl.model.train import Network, predict_batches, train_epochs
from nmcl.pipeline.addressing import Reference, at_references
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.progress import Progress, silent, within

StackedKind = Literal[
    "kernel_ridge", "mahalanobis", "logistic", "logistic_late", "forest_late", "ngram_bayes", "ngram_logistic"
]
STACKED: dict[StackedKind, tuple[Callable[[Shape, Any], Member], type]] = {
    "kernel_ridge": (KernelRidge, KernelRidgeSettings),
    "mahalanobis": (Mahalanobis, KernelRidgeSettings),
    "logistic": (Logistic, LogisticSettings),
    "logistic_late": (LogisticLate, LogisticSettings),
    "forest_late": (ForestLate, ForestSettings),
    "ngram_bayes": (NgramBayes, NgramBayesSettings),
    "ngram_logistic": (NgramLogistic, NgramLogisticSettings),
}
"""Constructors and settings by name. The settings are the defaults; without folds, as in earlier versions, they are at
their references. The address of a run names these models, not their settings."""
OF_TERMS: tuple[StackedKind, ...] = ("ngram_bayes", "ngram_logistic")
"""Models of sparse terms, which are left out where no feature set has any."""
BY_MODALITY: tuple[StackedKind, ...] = ("forest_late",)
"""Models with a member, and so a weight, for each modality."""
EARLIER: tuple[StackedKind, ...] = ("kernel_ridge", "mahalanobis", "logistic")
"""Stacked models of earlier versions, the reference of the setting."""
ALL_STACKED: tuple[StackedKind, ...] = tuple(STACKED)
PRIOR = 10.0
"""Prior of `pool_weights`; from 5 to 30 macro-F1 stays within a few tenths of a point on splits of nine feature sets.
"""
LEAST = -12.0
"""Lower bound of the members' log-probabilities: none can veto a class, or force one through a negative weight."""


@dataclass(frozen=True)
class StackedSettings(NMCLSettings):
    """Frozen settings of NMCL and of the models stacked with it."""

    stacked_with: Annotated[tuple[StackedKind, ...], Len(1), Reference(EARLIER)] = ALL_STACKED
    """Models stacked with the network, weighted on rows that they were not fitted to. Those of n-grams are left out
    where no feature set has any."""
    folds: Annotated[int, Ge(0), Reference(0)] = 5
    """Number of folds of training and validation rows in which the models are fitted for their weights; afterwards they
    are fitted to all these rows. 0: weights are fitted on the validation rows, and the models on the training rows."""

    def __post_init__(self) -> None:
        if self.folds == 1:
            raise SettingsError("model.folds is 1; expected 0, or at least 2.")


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

    def __init__(self, shape: Shape, kinds: Sequence[StackedKind], n_folds: int) -> None:
        super().__init__()
        settings_of = (lambda kind: kind()) if n_folds else at_references
        self.kinds = tuple(kind for kind in kinds if shape.n_terms or kind not in OF_TERMS)
        self.models = nn.ModuleList(
            build(shape, settings_of(settings)) for build, settings in (STACKED[kind] for kind in self.kinds)
        )
        self.n_members = [len(shape.dims) if kind in BY_MODALITY else 1 for kind in self.kinds]
        n_members = 1 + sum(self.n_members)
        self.register_buffer("weight", torch.zeros(n_members, shape.n_classes, shape.n_classes))
        if not self.weight.is_meta:  # torch would load its compiler for that, which takes seconds
            self.weight[0] = torch.eye(shape.n_classes)
        self.register_buffer("inverse_temperature", torch.ones(n_members))

    def fit(self, log_p: Sequence[Tensor], label: np.ndarray) -> Tensor:
        """Fit temperatures and weights by the likelihood of rows that no member was fitted to.

        The temperatures come first: otherwise an underconfident model would lose weight to an overconfident one that is
        right no more often.

        Args:
            log_p: Log-probabilities of the rows by each member, shape (N, K).
            label: Shape (N,).

        Returns:
            The log-probabilities of the ensemble, shape (N, K).
        """
        factors = [inverse_temperature(member.numpy(), label) for member in log_p]
        self.inverse_temperature.copy_(torch.tensor(factors))
        calibrated = self._calibrated(log_p, self.inverse_temperature)
        self.weight.copy_(torch.from_numpy(pool_weights(calibrated.double().numpy(), label, PRIOR)))
        return self._pooled(calibrated)

    def fit_beside(self, network: Tensor, log_p: Sequence[Tensor], label: np.ndarray) -> Tensor:
        """Fit the weights of the stacked models on all rows, then that of the network beside them on the last rows.

        The network is trained once: predictions of all rows by networks that did not see them would take most of the
        time. So its weight is one number, fitted on the validation rows.

        Args:
            network: Log-probabilities of the validation rows, which come last, by the network, shape (N', K).
            log_p: Log-probabilities of the rows by each stacked model, fitted to other rows, shape (N, K).
            label: Shape (N,).

        Returns:
            The log-probabilities of the validation rows by the ensemble, shape (N', K).
        """
        n_last = len(network)
        factors = [inverse_temperature(member.numpy(), label) for member in log_p]
        factors.insert(0, inverse_temperature(network.numpy(), label[-n_last:]))
        self.inverse_temperature.copy_(torch.tensor(factors))
        others = self._calibrated(log_p, self.inverse_temperature[1:])
        weight = torch.from_numpy(pool_weights(others.double().numpy(), label, PRIOR)).float()
        pooled = torch.log_softmax((others @ weight.mT).sum(dim=0), dim=1)[-n_last:]
        own = self._calibrated([network], self.inverse_temperature[:1])[0]
        share, rest = pair_weights(torch.stack([own, pooled]).double().numpy(), label[-n_last:], 1 / len(self.weight))
        self.weight[0] = share * torch.eye(len(self.weight[0]))
        self.weight[1:] = rest * weight
        return torch.log_softmax(share * own + rest * pooled, dim=1)

    def forward(self, network: Tensor, features: Features) -> Tensor:
        """Return log-probabilities, shape (N, K), from those of the network and the standardised features."""
        log_p = [network]
        for kind, model in zip(self.kinds, self.models, strict=True):
            inputs = features if model.reads_terms else {n: x for n, x in features.items() if not x.is_sparse}
            log_p += _members(kind, model(inputs, {}))
        return self._pooled(self._calibrated(log_p, self.inverse_temperature))

    def _pooled(self, calibrated: Tensor) -> Tensor:
        return torch.log_softmax((calibrated @ self.weight.mT).sum(dim=0), dim=1)

    @staticmethod
    def _calibrated(log_p: Sequence[Tensor], factors: Tensor) -> Tensor:
        """Return the calibrated log-probabilities log p_i, shape (number of members, N, K)."""
        pairs = zip(factors, log_p, strict=True)
        return torch.stack([torch.log_softmax(factor * member, dim=1) for factor, member in pairs]).clamp(min=LEAST)

    def shares(self) -> dict[str, float]:
        """Return each stacked model's share of the diagonal weights by name; the rest is the network's.

        Shares are in 0..1 unless a member is worse than chance.
        """
        own = self.weight.diagonal(dim1=1, dim2=2).sum(dim=1)
        parts = torch.split((own / own.sum())[1:], self.n_members)
        return {kind: float(part.sum()) for kind, part in zip(self.kinds, parts, strict=True)}


class StackedNMCL(Network):
    """NMCL stacked with other models.

    Each member first chooses what it has to choose (epochs, penalties) on validation rows. Then temperatures and
    weights are fitted by cross-validation: each training and validation row is predicted by members that were fitted to
    the other folds. At last all members are fitted to all these rows.

    A warm start sets the network's initial weights of the last step alone: they have been fitted to validation rows.
    """

    reads_terms = True

    def __init__(self, shape: Shape, settings: StackedSettings) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings
        self.nmcl = NMCL(shape, settings)
        self.stacking = Stacking(shape, settings.stacked_with, settings.folds)

    def forward(self, features: Features, observed: Mask) -> Output:
        own: Output = self.nmcl(features, observed)
        trusted = self.nmcl.trusted(features, observed)
        return Output(self.stacking(own.log_probability, self._with_terms(trusted, features)), own.per_modality)

    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return the loss of the network alone."""
        return self.nmcl.loss(features, observed, label)

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        initial = copy.deepcopy(self.nmcl.state_dict())
        if self.starts_warm and self.settings.folds:  # from weights that were fitted to validation rows
            self.nmcl = NMCL(self.shape, self.settings)
        history = self.nmcl.fit(train, validation, seed, progress)
        self.best_epoch = self.nmcl.best_epoch
        n_models = len(self._models)
        for number, (kind, model) in enumerate(self._models):
            progress("train: stacking", number, 2 * n_models, kind)
            if model.chooses or not self.settings.folds:
                model.fit(self._trusted(train), self._trusted(validation), seed, silent)
        if not self.settings.folds:
            network = _predicted(self.nmcl, validation)[0]
            self.stacking.fit([network, *self._predictions(validation)], validation.label)
            return history
        rows = joined(train, validation)
        weighing = within(progress, "train: stacking", n_models, 2 * n_models)
        # Predicted labels, which other members agree with, would make the ensemble overconfident.
        known = ~rows.is_predicted if rows.is_predicted is not None else np.ones(len(rows), bool)
        log_p = [member[known] for member in self._out_of_fold(rows, seed, weighing)]
        weighing("weights", n_models, n_models)
        self.held_out = self.stacking.fit_beside(_predicted(self.nmcl, validation)[0], log_p, rows.label[known])
        self.nmcl.load_state_dict(initial)
        last, n_steps = "train: all rows", self.best_epoch + n_models
        train_epochs(self.nmcl, self.settings.train, rows, self.best_epoch, within(progress, last, 0, n_steps))
        for number, (kind, model) in enumerate(self._models, start=self.best_epoch):
            progress(last, number, n_steps, kind)
            model.refit(self._trusted(rows), seed, silent)
        progress(last, n_steps, n_steps)
        return history

    @property
    def _models(self) -> list[tuple[StackedKind, Member]]:
        models: list[Any] = list(self.stacking.models)  # torch knows them as modules
        return list(zip(self.stacking.kinds, models, strict=True))

    def _predictions(self, rows: Dataset) -> Iterator[Tensor]:
        for kind, model in self._models:
            yield from _predicted(model, self._trusted(rows), kind)

    def _out_of_fold(self, rows: Dataset, seed: int, progress: Progress) -> Iterator[Tensor]:
        """Yield the log-probabilities of all rows by each stacked model, fitted to the other folds: shape (N, K)."""
        trusted = self._trusted(rows)
        for number, (kind, model) in enumerate(self._models):
            progress("weights", number, len(self._models), f"weights: {kind}")
            yield from _cross_predicted(model, kind, trusted, min(self.settings.folds, len(rows)), seed)

    def _with_terms(self, trusted: Features, features: Features) -> Features:
        return trusted | {key: features[key] for key in map(TERMS.format, self.shape.n_terms) if key in features}

    def _trusted(self, rows: Dataset) -> Dataset:
        """Return the rows; with `masked`, missing modalities are zero, the training mean."""
        if self.settings.missing == "completed":
            return rows
        masked = {name: array * rows.observed[name][:, None] for name, array in rows.modalities.items()}
        return replace(rows, modalities=masked)

    @torch.no_grad()
    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """Return `gates`, see `NMCL.diagnose`, and `stacking`, the share of each stacked model in the prediction."""
        return {**self.nmcl.diagnose(features, observed), "stacking": self.stacking.shares()}


def fold_numbers(label: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each row, 0..n_folds-1, shape (N,): rows of a class are spread evenly, and so are all rows."""
    order = np.random.default_rng(seed).permutation(len(label))
    order = order[np.argsort(label[order], kind="stable")]
    fold = np.empty(len(label), np.int64)
    fold[order] = np.arange(len(label)) % n_folds
    return fold


def _cross_predicted(model: Member, kind: StackedKind, rows: Dataset, n_folds: int, seed: int) -> Tensor:
    """Return log-probabilities of all rows, each by a copy fitted to the other folds: shape (members, N, K)."""
    fold = fold_numbers(rows.label, n_folds, seed)
    parts = []
    for number in range(n_folds):
        other = copy.deepcopy(model)
        other.refit(rows.take(fold != number), seed, silent)
        parts.append(_predicted(other, rows.take(fold == number), kind))
    found = torch.empty(len(parts[0]), len(rows), parts[0].shape[2])
    for number, part in enumerate(parts):
        found[:, torch.from_numpy(fold == number)] = part
    return found


def _predicted(model: Classifier, rows: Dataset, kind: StackedKind | None = None) -> Tensor:
    """Return the log-probabilities of a model's members, shape (members, N, K)."""
    outputs = predict_batches(model, rows, torch.device("cpu"))
    return torch.cat([torch.stack(_members(kind, output)) for output in outputs], dim=1)


def _members(kind: StackedKind | None, output: Output) -> list[Tensor]:
    return list(output.per_modality.values()) if kind in BY_MODALITY else [output.log_probability]
