"""Kernel ridge: closed-form least squares on a mean of Gaussian kernels, one per modality and one of all together.

Also known as regularised least-squares classification (Rifkin, Yeo and Poggio, 2003) and as the least-squares support
vector machine (Suykens and Vandewalle, 1999). The single-modality kernels capture the signal of each modality whatever
the number of features of the others. Trained kernel weights are rarely better than the plain mean (Gönen and Alpaydın,
"Multiple kernel learning algorithms", JMLR 12, 2011). On a few thousand rows of smooth features it is hard to beat.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import scipy  # its modules load when they are used: most predictions need none of them
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from nmcl.model.base import Classifier, Epoch, Features, Mask, Output, Shape
from nmcl.model.calibration import inverse_temperature
from nmcl.model.data import Dataset
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.progress import Progress

CHUNK = 4096
"""Rows whose kernel is in memory at once."""
SMALLEST = 1e-12
"""Lower bound for eigenvalues of the kernel matrix, which is singular if rows are equal."""


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
    landmarks: Annotated[int, Ge(1), Le(65536), Reference(1024)] = 1024
    """Number of random training rows that span the solution; with at least as many as rows it is exact."""


class KernelRidge(Classifier):
    """Kernel ridge classifier with landmarks: log p = log softmax(s (k(x, Z) A + c)).

    k is the mean of exp(-width ||x_m - z_m||^2 / D_m) over the modalities m and, where there are several, their
    concatenation. Z are landmarks (Nystroem's method; Williams and Seeger, NIPS 2001), A and c fit the class's one-hot
    vector by least squares, and the inverse temperature s maximises the likelihood of the validation labels. For L
    landmarks it takes N L (D + L) operations and L (L + D) numbers.
    """

    landmarks: Tensor
    weight: Tensor
    bias: Tensor
    inverse_temperature: Tensor

    def __init__(self, shape: Shape, settings: KernelRidgeSettings) -> None:
        super().__init__()
        self.settings = settings
        self.dims = list(shape.dims.values())
        # The size of a checkpoint's arrays follows from shape and settings, so unused landmarks stay zero.
        self.register_buffer("landmarks", torch.zeros(settings.landmarks, sum(self.dims)))
        self.register_buffer("weight", torch.zeros(settings.landmarks, shape.n_classes))
        self.register_buffer("bias", torch.zeros(shape.n_classes))
        self.register_buffer("inverse_temperature", torch.ones(()))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        x = train.side_by_side()
        n_landmarks = min(self.settings.landmarks, len(x))
        progress("train", 0, 1, f"{n_landmarks} landmarks")
        chosen = torch.from_numpy(x[np.random.default_rng(seed).permutation(len(x))[:n_landmarks]]).double()
        value, vector = scipy.linalg.eigh(self._kernel(chosen, chosen).numpy())
        root = vector / np.sqrt(np.maximum(value, SMALLEST))

        def mapped(rows: np.ndarray) -> np.ndarray:
            return np.asarray(self._kernel(torch.from_numpy(rows).double(), chosen).numpy() @ root)

        weight, bias = least_squares(mapped, x, train.label, len(self.bias), self.settings.ridge)
        self.landmarks[:n_landmarks] = chosen.float()
        self.weight[:n_landmarks] = torch.from_numpy((root @ weight).astype(np.float32))
        self.bias.copy_(torch.from_numpy(bias))
        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        self.inverse_temperature.fill_(inverse_temperature(self._scores(features).numpy(), validation.label))
        progress("train", 1, 1, "")
        return ()

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


def least_squares(
    mapped: Callable[[np.ndarray], np.ndarray], x: np.ndarray, label: np.ndarray, n_classes: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the weight (L, K) and offset (K,) from mapped rows to one-hot labels; the offset is not penalised.

    Args:
        mapped: maps rows (n, D) to features (n, L).
        x: shape (N, D), processed in chunks.
        label: shape (N,).
        n_classes: K.
        ridge: penalty on the squared weights.
    """

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), CHUNK):
            yield mapped(x[start : start + CHUNK]), label[start : start + CHUNK]

    target = np.eye(n_classes)
    mean = sum(rows.sum(axis=0) for rows, _ in chunks()) / len(x)
    target_mean = target[label].mean(axis=0)
    gram = ridge * np.eye(len(mean))
    moment = np.zeros((len(mean), n_classes))
    for rows, labels in chunks():
        centred = rows - mean
        gram += centred.T @ centred
        moment += centred.T @ (target[labels] - target_mean)
    weight = scipy.linalg.solve(gram, moment, assume_a="pos")
    return weight, target_mean - mean @ weight
