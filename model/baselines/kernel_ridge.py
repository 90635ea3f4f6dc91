"""Kernel ridge: closed-form least squares on a mean of Gaussian kernels, one per modality and one of all together.

Also known as regularised least-squares classification (Rifkin, Yeo and Poggio, 2003) and as the least-squares support
vector machine (Suykens and Vandewalle, 1999). The single-modality kernels capture the signal of each modality whatever
the number of features of the others. Trained kernel weights are rarely better than the plain mean (Gönen and Alpaydın,
"Multiple kernel learning algorithms", JMLR 12, 2011). On a few thousand rows of smooth features it is hard to beat.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import scipy  # its modules load when they are used: most predictions need none of them
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from nmcl.model.base import Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.calibration import inverse_temperature
from nmcl.model.data import Dataset
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.progress import Progress

CHUNK = 4096
"""Rows whose kernel is in memory at once."""
JITTER = 1e-9
"""Added to the diagonal of the landmarks' kernel matrix, which is singular if rows are equal."""


@dataclass(frozen=True)
class KernelRidgeSettings:
    """Frozen settings of kernel ridge.

    The defaults were chosen on splits of nine feature sets; half or twice the width changes macro-F1 by a few tenths of
    a point.
    """

    width: Annotated[float, Gt(0), Reference(0.4)] = 0.4
    """Width in k(x, y) = exp(-width ||x - y||^2 / D) of standardised features: about exp(-2 width) for random rows."""
    ridge: Annotated[float, Gt(0), Reference(0.01)] = 0.01
    """Ridge penalty, added to the eigenvalues of the kernel matrix, whose diagonal is 1."""
    ridges: Annotated[tuple[Annotated[float, Gt(0)], ...], Reference(())] = (0.01, 0.1, 1.0, 10.0)
    """Candidates for the penalty, chosen by the likelihood of the validation rows; empty: `ridge`. On noisy features,
    such as those of a few words, more than `ridge` is better."""
    landmarks: Annotated[int, Ge(1), Le(65536), Reference(1024)] = 2048
    """Number of random training rows that span the solution; with at least as many as rows it is exact."""


class KernelRidge(Member):
    """Kernel ridge classifier with landmarks: log p = log softmax(s (k(x, Z) A + c)).

    k is the mean of exp(-width ||x_m - z_m||^2 / D_m) over the modalities m and, where there are several, their
    concatenation. Z are landmarks (Nystroem's method; Williams and Seeger, NIPS 2001), A and c fit the class's one-hot
    vector by least squares, and the inverse temperature s maximises the likelihood of the validation labels. For L
    landmarks it takes N L (D + L) operations and L (L + D) numbers.
    """

    free_sizes: ClassVar[Mapping[str, str]] = {"landmarks": "landmarks", "weight": "landmarks"}
    landmarks: Tensor
    weight: Tensor
    bias: Tensor
    inverse_temperature: Tensor

    def __init__(self, shape: Shape, settings: KernelRidgeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.dims = list(shape.dims.values())
        self.chosen_ridge = settings.ridge
        self.register_buffer("landmarks", torch.zeros(0, sum(self.dims)))
        self.register_buffer("weight", torch.zeros(0, shape.n_classes))
        self.register_buffer("bias", torch.zeros(shape.n_classes))
        self.register_buffer("inverse_temperature", torch.ones(()))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        ridges = self.settings.ridges or (self.settings.ridge,)
        equations = self._equations(train, seed, progress)
        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        best = np.inf
        for number, ridge in enumerate(ridges, start=1):
            self._put(equations, ridge)
            scores = self._scores(features).numpy()
            factor = inverse_temperature(scores, validation.label)
            loss = -scipy.special.log_softmax(factor * scores, axis=1)[np.arange(len(scores)), validation.label].mean()
            progress("train", number, len(ridges), f"ridge {ridge:g}: validation loss {loss:.3f}")
            if loss < best:
                best, self.chosen_ridge = float(loss), ridge
                self.inverse_temperature.fill_(factor)
        self._put(equations, self.chosen_ridge)
        return ()

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        self._put(self._equations(rows, seed, progress), self.chosen_ridge)

    def _equations(self, rows: Dataset, seed: int, progress: Progress) -> "Equations":
        """Draw landmarks and return the normal equations of rows mapped such that products are the kernel's."""
        x = rows.side_by_side()
        n_landmarks = min(self.settings.landmarks, len(x))
        progress("train", 0, 1, f"{n_landmarks} landmarks")
        drawn = np.random.default_rng(seed).permutation(len(x))[:n_landmarks]
        chosen = torch.from_numpy(x[drawn]).double()
        kernel = self._kernel(chosen, chosen).numpy()
        factor = scipy.linalg.cholesky(kernel + JITTER * np.eye(n_landmarks), lower=True)

        def mapped(part: np.ndarray) -> np.ndarray:
            products = self._kernel(torch.from_numpy(part).double(), chosen).numpy()
            return np.asarray(scipy.linalg.solve_triangular(factor, products.T, lower=True).T)

        self.landmarks = chosen.float()
        return Equations.of(mapped, factor, x, rows.label, len(self.bias))

    def _put(self, equations: "Equations", ridge: float) -> None:
        weight, bias = equations.solved(ridge)
        self.weight = torch.from_numpy(np.ascontiguousarray(weight, np.float32))
        self.bias = torch.from_numpy(bias.astype(np.float32))

    def forward(self, features: Features, observed: Mask) -> Output:
        return Output(torch.log_softmax(self.inverse_temperature * self._scores(features), dim=1))

    def _scores(self, features: Features) -> Tensor:
        """Return the fitted one-hot vectors, shape (N, K)."""
        x = torch.cat(list(features.values()), dim=1)
        return (
            torch.cat([self._kernel(rows, self.landmarks) @ self.weight for rows in torch.split(x, CHUNK)]) + self.bias
        )

    def _kernel(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the mean of the kernels of x (N, D) and z (L, D), shape (N, L)."""
        of_modalities = zip(torch.split(x, self.dims, dim=1), torch.split(z, self.dims, dim=1), strict=True)
        distance = [torch.cdist(a.contiguous(), b.contiguous()).square() for a, b in of_modalities]
        scaled = [squares / dim for squares, dim in zip(distance, self.dims, strict=True)]
        if len(distance) > 1:
            scaled.append(torch.stack(distance).sum(dim=0) / x.shape[1])
        return torch.stack([torch.exp(-self.settings.width * squares) for squares in scaled]).mean(dim=0)


@dataclass(frozen=True)
class Equations:
    """Normal equations of least squares from mapped rows to one-hot labels; the offset is not penalised."""

    factor: np.ndarray
    """Cholesky factor of the landmarks' kernel matrix, shape (L, L)."""
    gram: np.ndarray
    """Products of the centred mapped features, shape (L, L)."""
    moment: np.ndarray
    """Their products with the centred one-hot labels, shape (L, K)."""
    mean: np.ndarray
    """Mean of the mapped features, shape (L,)."""
    target_mean: np.ndarray
    """Share of each class, shape (K,)."""

    @staticmethod
    def of(
        mapped: Callable[[np.ndarray], np.ndarray], factor: np.ndarray, x: np.ndarray, label: np.ndarray, n_classes: int
    ) -> "Equations":
        """Sum over rows x (N, D) in chunks; `mapped` maps rows (n, D) to features (n, L)."""

        def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for start in range(0, len(x), CHUNK):
                yield mapped(x[start : start + CHUNK]), label[start : start + CHUNK]

        target = np.eye(n_classes)
        mean = sum(rows.sum(axis=0) for rows, _ in chunks()) / len(x)
        target_mean = target[label].mean(axis=0)
        gram, moment = np.zeros((len(mean), len(mean))), np.zeros((len(mean), n_classes))
        for rows, labels in chunks():
            centred = rows - mean
            gram += centred.T @ centred
            moment += centred.T @ (target[labels] - target_mean)
        return Equations(factor, gram, moment, mean, target_mean)

    def solved(self, ridge: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights of the landmarks, shape (L, K), and the offset, shape (K,)."""
        weight = scipy.linalg.solve(self.gram + ridge * np.eye(len(self.gram)), self.moment, assume_a="pos")
        of_landmarks = scipy.linalg.solve_triangular(self.factor, weight, lower=True, trans="T")
        return of_landmarks, self.target_mean - self.mean @ weight
