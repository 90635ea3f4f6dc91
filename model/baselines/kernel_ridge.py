"""Kernel ridge: least squares on a mean of Gaussian kernels, one of each modality and one of all, in closed form.

Also known as regularised least-squares classification (Rifkin, Yeo and Poggio, 2003) and as the least-squares support
vector machine (Suykens and Vandewalle, 1999). In the kernels of single modalities what one of them tells is found
whatever the others tell and however many features they have; weights that are learnt for several kernels are hard to
get better than the plain mean (Gönen and Alpaydın, "Multiple kernel learning algorithms", JMLR 12, 2011). On a few
thousand rows of smooth features it is hard to beat.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from scipy.linalg import eigh, solve
from torch import Tensor

from model.base import Epoch, Features, Mask, Output, Shape, VenueModel
from model.calibration import sharpest
from model.data import Dataset
from pipeline.progress import Progress

CHUNK = 4096
"""Rows whose kernel is held at once."""
SMALLEST = 1e-12
"""Eigenvalue of a kernel matrix that counts as this at least: rows may be equal."""


@dataclass(frozen=True)
class KernelRidgeSettings:
    """Defaults were chosen on splits of nine sets of features; half or twice the width changes macro-F1 by a few tenths
    of a point."""

    width: Annotated[float, Gt(0)] = 0.4
    """k(x, y) = exp(-width ||x - y||^2 / D) of standardised features: two random rows have about exp(-2 width)."""
    ridge: Annotated[float, Gt(0)] = 0.01
    """Added to the eigenvalues of the kernel matrix, whose diagonal is 1."""
    landmarks: Annotated[int, Ge(1), Le(65536)] = 1024
    """Training rows that span the solution, drawn at random; with at least as many as rows it is exact."""
    shrinkage: Annotated[float, Gt(0)] | None = None
    """None: the mean of the kernels. Else the one of all features side by side after `within_class_whitening` with this
    shrinkage, scaled to a mean square of 1: the Mahalanobis kernel."""


class KernelRidge(VenueModel):
    """log p = log softmax(s (k(x, Z) A + c)), with k the mean of exp(-width ||x_m - z_m||^2 / D_m) over the modalities
    m and, where there are several, all of them side by side.

    Z are landmarks (Nystroem's method; Williams and Seeger, NIPS 2001), A and c fit the venue's one-hot vector with
    squared error, and the sharpness s makes the validation labels likeliest. For L landmarks it takes N L (D + L)
    operations and L (L + D) numbers.
    """

    landmarks: Tensor
    whitening: Tensor
    weight: Tensor
    bias: Tensor
    sharpness: Tensor

    def __init__(self, shape: Shape, settings: KernelRidgeSettings) -> None:
        super().__init__()
        self.settings = settings
        n_features = sum(shape.dims.values())
        widths = [n_features] if settings.shrinkage is not None else [*shape.dims.values()]
        self.blocks = [slice(end - width, end) for end, width in zip(accumulate(widths), widths, strict=True)]
        # A checkpoint's arrays have the size that shape and settings tell, so unused landmarks stay zero.
        self.register_buffer("landmarks", torch.zeros(settings.landmarks, n_features))
        self.register_buffer("weight", torch.zeros(settings.landmarks, shape.n_venues))
        self.register_buffer("bias", torch.zeros(shape.n_venues))
        self.register_buffer("sharpness", torch.ones(()))
        if settings.shrinkage is not None:
            self.register_buffer("whitening", torch.eye(n_features))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        x = train.side_by_side()
        if self.settings.shrinkage is not None:
            x = self._whitened(x, train.label, self.settings.shrinkage)
        n_landmarks = min(self.settings.landmarks, len(x))
        progress("train", 0, 1, f"{n_landmarks} landmarks")
        chosen = torch.from_numpy(x[np.random.default_rng(seed).permutation(len(x))[:n_landmarks]]).double()
        value, vector = eigh(self._kernel(chosen, chosen).numpy())
        root = vector / np.sqrt(np.maximum(value, SMALLEST))

        def mapped(rows: np.ndarray) -> np.ndarray:
            return np.asarray(self._kernel(torch.from_numpy(rows).double(), chosen).numpy() @ root)

        weight, bias = least_squares(mapped, x, train.label, len(self.bias), self.settings.ridge)
        self.landmarks[:n_landmarks] = chosen.float()
        self.weight[:n_landmarks] = torch.from_numpy((root @ weight).astype(np.float32))
        self.bias.copy_(torch.from_numpy(bias))
        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        self.sharpness.fill_(sharpest(self._scores(features).numpy(), validation.label))
        progress("train", 1, 1, "")
        return ()

    def forward(self, features: Features, observed: Mask) -> Output:
        return Output(torch.log_softmax(self.sharpness * self._scores(features), dim=1))

    def _whitened(self, x: np.ndarray, label: np.ndarray, shrinkage: float) -> np.ndarray:
        """Learn the whitening, and apply it."""
        whitening = within_class_whitening(x, label, shrinkage)
        white: np.ndarray = x @ whitening
        scale = np.float32(np.sqrt(np.mean(np.square(white), dtype=np.float64)) or 1)
        self.whitening.copy_(torch.from_numpy(whitening / scale))
        white /= scale
        return white

    def _scores(self, features: Features) -> Tensor:
        """Fits of the one-hot vectors, shape (N, K)."""
        x = torch.cat(list(features.values()), dim=1)
        if self.settings.shrinkage is not None:
            x = x @ self.whitening
        return (
            torch.cat([self._kernel(rows, self.landmarks) @ self.weight for rows in torch.split(x, CHUNK)]) + self.bias
        )

    def _kernel(self, x: Tensor, z: Tensor) -> Tensor:
        """Mean of the kernels. Args: x: shape (N, D); z: shape (L, D). Result: shape (N, L)."""
        distance = [
            torch.cdist(x[:, columns].contiguous(), z[:, columns].contiguous()).square() for columns in self.blocks
        ]
        scaled = [
            squares / (columns.stop - columns.start) for squares, columns in zip(distance, self.blocks, strict=True)
        ]
        if len(distance) > 1:
            scaled.append(torch.stack(distance).sum(dim=0) / x.shape[1])
        return torch.stack([torch.exp(-self.settings.width * squares) for squares in scaled]).mean(dim=0)


def within_class_whitening(x: np.ndarray, label: np.ndarray, shrinkage: float) -> np.ndarray:
    """(S + shrinkage I)^-1/2 with S the covariance within classes, shape (D, D), float32.

    Hatch, Kajarekar and Stolcke, "Within-class covariance normalization for SVM-based speaker recognition", 2006: what
    varies within venues is scaled down, and directions of small variance are seen.

    Args:
        x: shape (N, D).
        label: shape (N,).
        shrinkage: variance added in all directions, in units of the features'.
    """
    n_rows, n_features = x.shape
    classes, member = np.unique(label, return_inverse=True)
    means = np.stack([x[label == k].mean(axis=0, dtype=np.float64) for k in classes])
    freedom = max(1, n_rows - len(classes))
    if n_rows < n_features:
        centred = x - means[member]
        variance, left = eigh(centred @ centred.T / freedom)
        kept = variance > 1e-9 * variance[-1]
        variance, direction = variance[kept], centred.T @ (left[:, kept] / np.sqrt(freedom * variance[kept]))
    else:
        covariance = np.zeros((n_features, n_features))
        for start in range(0, n_rows, CHUNK):
            centred = x[start : start + CHUNK] - means[member[start : start + CHUNK]]
            covariance += centred.T @ centred / freedom
        variance, direction = eigh(covariance)
    rest = 1 / np.sqrt(shrinkage)
    scaled = direction * (1 / np.sqrt(np.maximum(variance, 0) + shrinkage) - rest)
    whitening: np.ndarray = (rest * np.eye(n_features) + scaled @ direction.T).astype(np.float32)
    return whitening


def least_squares(
    mapped: Callable[[np.ndarray], np.ndarray], x: np.ndarray, label: np.ndarray, n_venues: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (L, K) and offset (K,) of mapped rows that fit their one-hot vectors; the offset is not penalised.

    Args:
        mapped: from rows (n, D) to their image (n, L).
        x: shape (N, D), taken a chunk at a time.
        label: shape (N,).
    """

    def chunks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(x), CHUNK):
            yield mapped(x[start : start + CHUNK]), label[start : start + CHUNK]

    target = np.eye(n_venues)
    mean = sum(rows.sum(axis=0) for rows, _ in chunks()) / len(x)
    target_mean = target[label].mean(axis=0)
    gram = ridge * np.eye(len(mean))
    moment = np.zeros((len(mean), n_venues))
    for rows, labels in chunks():
        centred = rows - mean
        gram += centred.T @ centred
        moment += centred.T @ (target[labels] - target_mean)
    weight = solve(gram, moment, assume_a="pos")
    return weight, target_mean - mean @ weight
