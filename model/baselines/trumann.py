"""TRUMANN: a linear common space of the modalities, and multi-task classifiers guided by a tree of the classes.

Zhang et al., "Shorter-is-Better: Venue Category Estimation from Micro-Video", ACM MM 2016; the equations are in
`tree_guided`. Not specified by the source: features and one-hot labels are centred on the training rows, so that the
prediction has an intercept, the classes' shares.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen

from nmcl.model.base import Classifier, Epoch, Features, Mask, Output, Shape
from nmcl.model.baselines.tree_guided import Moments, Penalties, Solution, Tree, node_weights, sweeps
from nmcl.model.calibration import inverse_temperature
from nmcl.model.data import Dataset
from nmcl.model.evaluate import f1
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.progress import Progress

CHUNK_ROWS = 8192
"""Rows in memory as float64 at once."""
UNUSED = -1.0
"""Placeholder in the objective's history for sweeps that were not run; the objective itself is >= 0."""
INVERSE_TEMPERATURES = (math.exp(-5.0), math.exp(10.0))
"""Bounds of the inverse temperature of the scores."""

PenaltyGrid = Annotated[tuple[Annotated[float, Ge(1e-6), Le(1e6)], ...], MinLen(1)]


@dataclass(frozen=True)
class TrumannSettings:
    """Frozen settings of TRUMANN; the three penalties are chosen by validation macro-F1 among all combinations.

    Some seventy combinations were tried on 980 training rows of three views. Validation macro-F1 stayed within two
    points for l1 of 0.1 to 100, l2 up to 100 and l3 up to 0.001; an l1 of 0.001 cost three points; an l3 of 10, or of
    0.001 with an l1 of 1000, shrank W to almost zero.
    """

    groups: Annotated[tuple[tuple[str, ...], ...], Reference(())] = ()
    """Classes under each node of the tree. Names that are no class of the model are ignored; the root and every single
    class are always nodes, and without groups the only ones."""
    width: Annotated[Annotated[int, Ge(1), Le(4096)] | None, Reference(None)] = None
    """Columns L of the common space; None for 4/3 of the number of classes, as in the authors' code (250 for 188), but
    at least 50."""
    space_penalties: Annotated[PenaltyGrid, Reference((10.0,))] = (10.0,)
    """Candidates for l1."""
    projection_penalties: Annotated[PenaltyGrid, Reference((1.0, 10.0, 100.0))] = (1.0, 10.0, 100.0)
    """Candidates for l2."""
    tree_penalties: Annotated[PenaltyGrid, Reference((1e-6, 1e-4, 1e-2))] = (1e-6, 1e-4, 1e-2)
    """Candidates for l3."""
    max_sweeps: Annotated[int, Ge(1), Le(10_000), Reference(10)] = 10
    """Largest number of sweeps; the source needs fewer than 10."""
    tolerance: Annotated[float, Ge(0), Reference(1e-4)] = 1e-4
    """Relative decrease of the objective below which the sweeps stop."""


class Trumann(Classifier):
    """TRUMANN as a linear classifier: log p = log softmax(s (x W' + c)).

    The source predicts the largest entry of (1/S sum_s X^s A^s) W. W' is the product of those matrices, and c combines
    the classes' shares and the centring. The inverse temperature s is fitted on training rows by maximum likelihood;
    it changes no decision, and probabilities are somewhat overconfident, as training rows fit better than others.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    inverse_temperature: torch.Tensor
    objective: torch.Tensor
    penalties: torch.Tensor

    def __init__(self, shape: Shape, settings: TrumannSettings) -> None:
        super().__init__()
        self.settings = settings
        self.members = tree_members(settings.groups, shape.classes)
        self.register_buffer("weight", torch.zeros(sum(shape.dims.values()), shape.n_classes))
        self.register_buffer("bias", torch.zeros(shape.n_classes))
        self.register_buffer("inverse_temperature", torch.ones(1))
        self.register_buffer("objective", torch.full((settings.max_sweeps,), UNUSED))
        self.register_buffer("penalties", torch.zeros(3))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        n_classes, settings = len(self.bias), self.settings
        mean, moments, class_means = _moments(train, n_classes)
        tree = Tree(self.members, node_weights(self.members, class_means))
        width = settings.width or max(50, round(n_classes * 4 / 3))
        start = np.random.default_rng(seed).uniform(size=(width, n_classes))  # as in the authors' code
        choices = [Penalties(*values) for values in self._grid()]
        best = -1.0
        for number, penalties in enumerate(choices, start=1):
            solution, history = sweeps(moments, tree, penalties, start, settings.max_sweeps, settings.tolerance)
            weight, bias = _linear(solution, mean, len(moments.blocks))
            _, macro = f1(validation.label, _scores(validation, weight, bias).argmax(axis=1))
            progress("train", number, len(choices), f"validation macro-F1 {macro:.3f}")
            if macro > best:
                best = macro
                self._put(weight, bias, penalties, history)
        scores = _scores(train, self.weight.double().numpy(), self.bias.double().numpy())
        self.inverse_temperature.fill_(inverse_temperature(scores, train.label, INVERSE_TEMPERATURES, smooth=False))
        return ()

    def _grid(self) -> Iterator[tuple[float, ...]]:
        """Return the combinations with the strongest penalties first, as ties go to the first."""
        grids = (self.settings.space_penalties, self.settings.projection_penalties, self.settings.tree_penalties)
        return product(*(sorted(grid, reverse=True) for grid in grids))

    def _put(self, weight: np.ndarray, bias: np.ndarray, penalties: Penalties, history: list[float]) -> None:
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))
        self.penalties.copy_(torch.tensor([penalties.space, penalties.projection, penalties.tree]))
        self.objective.fill_(UNUSED)
        self.objective[: len(history)] = torch.tensor(history)

    def forward(self, features: Features, observed: Mask) -> Output:
        x = torch.cat(list(features.values()), dim=1)
        return Output(torch.log_softmax(self.inverse_temperature * (x @ self.weight + self.bias), dim=1))

    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """Return the tree, the chosen penalties, and the objective after each sweep with them."""
        names = ("space", "projection", "tree")
        return {
            "tree": "given" if self.settings.groups else "flat",
            "n_nodes": len(self.members),
            "penalties": dict(zip(names, self.penalties.tolist(), strict=True)),
            "objective": self.objective[self.objective >= 0].tolist(),
        }


def tree_members(groups: tuple[tuple[str, ...], ...], classes: tuple[str, ...]) -> np.ndarray:
    """Return the nodes over the classes, shape (V, T), float64, 0 or 1: root, distinct groups and single classes."""
    found = [tuple(name in group for name in classes) for group in map(frozenset, groups)]
    singles = [tuple(name == other for other in classes) for name in classes]
    nodes = dict.fromkeys([(True,) * len(classes), *(node for node in found if any(node)), *singles])
    return np.array(list(nodes), np.float64)


def _moments(train: Dataset, n_classes: int) -> tuple[np.ndarray, Moments, np.ndarray]:
    """Return the means of Z (D+T,), its centred moments, and the class means of the features (T, D), float64."""
    blocks, width = [], 0
    for n_features in train.dims.values():
        blocks.append(slice(width, width + n_features))
        width += n_features
    gram = np.zeros((width + n_classes, width + n_classes))
    total = np.zeros(width + n_classes)
    class_sums = np.zeros((n_classes, width))
    for chunk in _chunks(train):
        y = np.eye(n_classes)[train.label[chunk]]
        z = np.concatenate([_features(train, chunk), y], axis=1)
        gram += z.T @ z
        total += z.sum(axis=0)
        class_sums += y.T @ z[:, :width]
    mean = total / len(train)
    counts = total[width:, None]
    class_means = np.divide(class_sums, counts, out=np.full_like(class_sums, np.nan), where=counts > 0)
    return mean, Moments(gram - len(train) * np.outer(mean, mean), tuple(blocks)), class_means


def _linear(solution: Solution, mean: np.ndarray, n_modalities: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight (D, T) and bias (T,) of the scores, float64."""
    weight = solution.projection @ solution.tasks / n_modalities
    return weight, mean[len(weight) :] - mean[: len(weight)] @ weight


def _scores(rows: Dataset, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([_features(rows, chunk) @ weight + bias for chunk in _chunks(rows)])


def _features(rows: Dataset, chunk: slice) -> np.ndarray:
    return np.concatenate([array[chunk] for array in rows.modalities.values()], axis=1, dtype=np.float64)


def _chunks(rows: Dataset) -> Iterator[slice]:
    return (slice(start, start + CHUNK_ROWS) for start in range(0, len(rows), CHUNK_ROWS))
