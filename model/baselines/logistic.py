"""Multinomial logistic regression on the standardised concatenation: the baseline that any fusion must beat."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen

from nmcl.model.base import Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.data import Dataset
from nmcl.model.evaluate import f1
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class LogisticSettings:
    """Frozen settings of logistic regression; the L2 penalty is chosen by validation macro-F1."""

    inverse_penalties: Annotated[
        tuple[Annotated[float, Gt(0)], ...], MinLen(1), Reference((1e-4, 1e-3, 1e-2, 1e-1, 1.0))
    ] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Candidates for scikit-learn's C; the smallest of the best is used."""
    max_iterations: Annotated[int, Ge(1), Reference(300)] = 300
    """Maximum number of iterations."""


class Logistic(Member):
    """Logistic regression on the concatenated modalities: log p = log softmax(x W + c)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, shape: Shape, settings: LogisticSettings) -> None:
        super().__init__()
        self.settings = settings
        self.chosen_penalty = settings.inverse_penalties[0]
        self.register_buffer("weight", torch.zeros(sum(shape.dims.values()), shape.n_classes))
        self.register_buffer("bias", torch.zeros(shape.n_classes))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        best = -1.0
        x_validation = torch.from_numpy(validation.side_by_side())
        penalties = sorted(self.settings.inverse_penalties)
        solutions = list(self._solved(train, penalties))
        for number, (inverse, solution) in enumerate(zip(penalties, solutions, strict=True), start=1):
            self._put(*solution)
            _, macro = f1(validation.label, (x_validation @ self.weight + self.bias).argmax(dim=1).numpy())
            progress("train", number, len(penalties), f"validation macro-F1 {macro:.3f}")
            if macro > best:
                best, self.chosen_penalty, chosen = macro, inverse, solution
        self._put(*chosen)
        return ()

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        (solution,) = self._solved(rows, [self.chosen_penalty])
        self._put(*solution)

    def _solved(
        self, rows: Dataset, inverse_penalties: Sequence[float]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the classes of the rows, their coefficients and their intercepts for ascending C.

        Each solution is the start of the next. With fewer rows than features, rows are rotated into the space that they
        span, which changes no solution under an L2 penalty.
        """
        from sklearn.linear_model import LogisticRegression  # takes a second; most processes train nothing

        x, seen = rows.side_by_side(), np.unique(rows.label)
        if len(seen) == 1:
            yield from ((seen, np.zeros((1, len(self.weight))), np.zeros(1)) for _ in inverse_penalties)
            return
        rotation = None
        if len(x) < x.shape[1]:
            left, length, rotation = np.linalg.svd(x, full_matrices=False)
            x = left * length
        model = LogisticRegression(max_iter=self.settings.max_iterations, warm_start=True)
        for inverse in inverse_penalties:
            weight, bias = fit_multinomial(model.set_params(C=inverse), x, rows.label)
            yield seen, weight if rotation is None else weight @ rotation, bias

    def _put(self, seen: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        """Store a solution; a class without a training row gets a probability of practically zero."""
        self.weight.zero_()
        self.bias.fill_(float(bias.min()) - 30.0)
        self.weight[:, seen] = torch.from_numpy(weight.T.astype(np.float32))
        self.bias[seen] = torch.from_numpy(bias.astype(np.float32))

    def forward(self, features: Features, observed: Mask) -> Output:
        x = torch.cat(list(features.values()), dim=1)
        return Output(torch.log_softmax(x @ self.weight + self.bias, dim=1))


def fit_multinomial(
    model: "LogisticRegression", x: "np.ndarray | csr_array", label: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a logistic regression; return coefficients and intercepts per class, also for two classes.

    A fit that reaches the maximum number of iterations is used as it is: stopping early acts like a stronger penalty.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, label)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    return weight, bias
