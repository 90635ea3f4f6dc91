"""Linear models on sparse term weights: naive Bayes and logistic regression on n-grams of the texts.

Vectors of a few hundred numbers lose what rare words say; these models keep a weight for each term.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor

from nmcl.model.base import TERMS, Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.baselines.logistic import fit_multinomial
from nmcl.model.batches import sparse_tensor
from nmcl.model.calibration import inverse_temperature
from nmcl.model.data import Dataset
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LEAST_CONFIDENT = 1e-3
"""Lower bound of the inverse temperature: scores of naive Bayes are sums over many terms."""


class TermModel(Member):
    """Linear model on the terms of all feature sets that have any: log p = log softmax(s (t W + c)).

    The setting of its penalty and the inverse temperature s have the highest likelihood on validation rows with any
    term. A row without one gets the class shares of the training rows.
    """

    reads_terms = True
    weight: Tensor
    """W, shape (number of terms, K)."""
    bias: Tensor
    prior: Tensor
    """Log share of each class, shape (K,)."""
    inverse_temperature: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        if not shape.n_terms:
            raise ModelError("no feature set has sparse terms; add one such as ngrams, or leave this model out")
        self.names = list(shape.n_terms)
        self.chosen = 0.0
        self.register_buffer("weight", torch.zeros(sum(shape.n_terms.values()), shape.n_classes))
        self.register_buffer("bias", torch.zeros(shape.n_classes))
        self.register_buffer("prior", torch.zeros(shape.n_classes))
        self.register_buffer("inverse_temperature", torch.ones(()))

    @property
    @abstractmethod
    def candidates(self) -> Sequence[float]:
        """Values of the penalty to choose from."""

    @abstractmethod
    def solved(
        self, terms: "csr_array", label: np.ndarray, penalties: Sequence[float], seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield weights, shape (T, K), and bias, shape (K,), for each penalty."""

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        best, kept = np.inf, None
        features = {TERMS.format(name): sparse_tensor(validation.terms[name]) for name in self.names}
        known = self._scores(features)[1].numpy()
        label = validation.label[known]
        self._count(train)
        for number, (penalty, solution) in enumerate(
            zip(self.candidates, self._fitted(train, self.candidates, seed), strict=True), start=1
        ):
            self._put(*solution)
            scores = self._scores(features)[0].numpy()[known]
            factor = inverse_temperature(scores, label, (LEAST_CONFIDENT, 100.0)) if len(label) else 1.0
            log_p = torch.log_softmax(torch.from_numpy(factor * scores), dim=1).numpy()
            loss = -log_p[np.arange(len(log_p)), label].sum() / max(len(label), 1)
            progress("train", number, len(self.candidates), f"penalty {penalty:g}: validation loss {loss:.3f}")
            if loss < best:
                best, self.chosen, kept = loss, penalty, solution
                self.inverse_temperature.fill_(factor)
        if kept:
            self._put(*kept)
        return ()

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        self._count(rows)
        (solution,) = self._fitted(rows, [self.chosen], seed)
        self._put(*solution)

    def _fitted(self, rows: Dataset, penalties: Sequence[float], seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from scipy.sparse import csr_array, hstack

        terms = csr_array(hstack([rows.terms[name] for name in self.names], format="csr"))
        known = np.diff(terms.indptr) > 0
        if len(np.unique(rows.label[known])) < 2:
            yield from ((np.zeros(self.weight.shape), self.prior.numpy()) for _ in penalties)
            return
        yield from self.solved(terms[known], rows.label[known], penalties, seed)

    def _count(self, rows: Dataset) -> None:
        counts = np.bincount(rows.label, minlength=len(self.prior)) + 1e-3
        self.prior.copy_(torch.from_numpy(np.log(counts / counts.sum())))

    def _put(self, weight: np.ndarray, bias: np.ndarray) -> None:
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))

    def _scores(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return t W + c, shape (N, K), and which rows have a term, shape (N,), bool."""
        total, known, start = self.bias, torch.zeros((), dtype=torch.bool), 0
        for name in self.names:
            terms = features[TERMS.format(name)]
            end = start + terms.shape[1]
            total = total + terms @ self.weight[start:end]
            known = known | (torch.bincount(terms.indices()[0], minlength=len(terms)) > 0)
            start = end
        return total, known

    def forward(self, features: Features, observed: Mask) -> Output:
        scores, known = self._scores(features)
        own = torch.log_softmax(self.inverse_temperature * scores, dim=1)
        return Output(torch.where(known[:, None], own, self.prior))


@dataclass(frozen=True)
class NgramBayesSettings:
    """Frozen settings of complement naive Bayes."""

    smoothing: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(1), Reference((0.1, 0.3, 1.0))] = (0.1, 0.3, 1.0)
    """Candidates for the weight that each term has in each class besides its occurrences."""


class NgramBayes(TermModel):
    """Complement naive Bayes: Rennie, Shih, Teevan and Karger, "Tackling the poor assumptions of naive Bayes text
    classifiers", ICML 2003. Fitted in one pass; on short texts it is often ahead of models that are trained."""

    def __init__(self, shape: Shape, settings: NgramBayesSettings) -> None:
        super().__init__(shape)
        self.settings = settings

    @property
    def candidates(self) -> Sequence[float]:
        return self.settings.smoothing

    def solved(
        self, terms: "csr_array", label: np.ndarray, penalties: Sequence[float], seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from sklearn.naive_bayes import ComplementNB  # takes a second; most processes train nothing

        for penalty in penalties:
            model = ComplementNB(alpha=penalty).fit(terms, label)
            weight, bias = np.zeros(self.weight.shape), np.full(len(self.bias), -1e3)
            weight[:, model.classes_], bias[model.classes_] = model.feature_log_prob_.T, 0.0
            yield weight, bias


@dataclass(frozen=True)
class NgramLogisticSettings:
    """Frozen settings of logistic regression on terms."""

    inverse_penalties: Annotated[
        tuple[Annotated[float, Gt(0)], ...], MinLen(1), Reference((1.0, 3.0, 10.0, 30.0))
    ] = (1.0, 3.0, 10.0, 30.0)  # fmt: skip
    """Candidates for scikit-learn's C."""
    max_iterations: Annotated[int, Ge(1), Reference(200)] = 200
    """Maximum number of iterations."""


class NgramLogistic(TermModel):
    """Multinomial logistic regression on the terms."""

    def __init__(self, shape: Shape, settings: NgramLogisticSettings) -> None:
        super().__init__(shape)
        self.settings = settings

    @property
    def candidates(self) -> Sequence[float]:
        return sorted(self.settings.inverse_penalties)

    def solved(
        self, terms: "csr_array", label: np.ndarray, penalties: Sequence[float], seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from sklearn.linear_model import LogisticRegression  # takes a second; most processes train nothing

        model = LogisticRegression(max_iter=self.settings.max_iterations, warm_start=True, tol=1e-3)
        for penalty in penalties:
            own_weight, own_bias = fit_multinomial(model.set_params(C=penalty), terms, label)
            weight, bias = np.zeros(self.weight.shape), np.full(len(self.bias), -30.0)
            weight[:, model.classes_], bias[model.classes_] = own_weight.T, own_bias
            yield weight, bias
