"""Kernel ridge: least squares on a Gaussian kernel, in closed form.

Also known as regularised least-squares classification (Rifkin, Yeo and Poggio, 2003) and as the least-squares support
vector machine (Suykens and Vandewalle, 1999). On a few thousand rows of smooth features it is hard to beat.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from scipy.linalg import eigh, solve

from model.base import Epoch, Features, Mask, Output, Shape, VenueModel
from model.calibration import sharpest
from model.data import Dataset
from pipeline.progress import Progress

if TYPE_CHECKING:
    from sklearn.kernel_approximation import Nystroem

CHUNK = 4096
"""Rows whose kernel is held at once."""


@dataclass(frozen=True)
class KernelRidgeSettings:
    """Chosen on splits of four sets of three views; half or twice of either changes macro-F1 by a few tenths of a
    point."""

    width: Annotated[float, Gt(0)] = 0.2
    """k(x, y) = exp(-width ||x - y||^2 / D) of standardised features: two random rows have about exp(-2 width)."""
    ridge: Annotated[float, Gt(0)] = 0.01
    """Added to the eigenvalues of the kernel matrix, whose diagonal is 1."""
    landmarks: Annotated[int, Ge(1), Le(65536)] = 1024
    """Training rows that span the solution, drawn at random; with at least as many as rows it is exact."""
    shrinkage: Annotated[float, Gt(0)] | None = None
    """None: Euclidean distances. Else those of `within_class_whitening` with this shrinkage, its rows scaled to a mean
    square of 1: the Mahalanobis kernel."""


class KernelRidge(VenueModel):
    """log p = log softmax(s (k(x, Z) A + c)) over the modalities side by side.

    Z are landmarks (Nystroem's method; Williams and Seeger, NIPS 2001), A and c fit the venue's one-hot vector with
    squared error, and the sharpness s makes the validation labels likeliest. For L landmarks it takes N L (D + L)
    operations and L (L + D) numbers.
    """

    landmarks: torch.Tensor
    whitening: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    sharpness: torch.Tensor

    def __init__(self, shape: Shape, settings: KernelRidgeSettings) -> None:
        super().__init__()
        self.settings = settings
        n_features = sum(shape.dims.values())
        self.gamma = settings.width / n_features
        # A checkpoint's arrays have the size that shape and settings tell, so unused landmarks stay zero.
        self.register_buffer("landmarks", torch.zeros(settings.landmarks, n_features))
        self.register_buffer("weight", torch.zeros(settings.landmarks, shape.n_venues))
        self.register_buffer("bias", torch.zeros(shape.n_venues))
        self.register_buffer("sharpness", torch.ones(()))
        if settings.shrinkage is not None:
            self.register_buffer("whitening", torch.eye(n_features))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        from sklearn.kernel_approximation import Nystroem  # takes a second; most processes train nothing

        x = train.side_by_side()
        if self.settings.shrinkage is not None:
            whitening = within_class_whitening(x, train.label, self.settings.shrinkage)
            x = x @ whitening
            scale = np.sqrt((x.astype(np.float64) ** 2).mean()) or 1.0
            x = x / np.float32(scale)
            self.whitening.copy_(torch.from_numpy(whitening / np.float32(scale)))
        n_landmarks = min(self.settings.landmarks, len(x))
        progress("train", 0, 1, f"{n_landmarks} landmarks")
        kernel_map = Nystroem(gamma=self.gamma, n_components=n_landmarks, random_state=seed)
        kernel_map.fit(x.astype(np.float64))
        weight, bias = least_squares(kernel_map, x, train.label, len(self.bias), self.settings.ridge)
        self.landmarks[:n_landmarks] = torch.from_numpy(kernel_map.components_.astype(np.float32))
        self.weight[:n_landmarks] = torch.from_numpy((kernel_map.normalization_.T @ weight).astype(np.float32))
        self.bias.copy_(torch.from_numpy(bias))
        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        self.sharpness.fill_(sharpest(self._scores(features).numpy(), validation.label))
        progress("train", 1, 1, "")
        return ()

    def forward(self, features: Features, observed: Mask) -> Output:
        return Output(torch.log_softmax(self.sharpness * self._scores(features), dim=1))

    def _scores(self, features: Features) -> torch.Tensor:
        """Fits of the one-hot vectors, shape (N, K)."""
        x = torch.cat(list(features.values()), dim=1)
        if self.settings.shrinkage is not None:
            x = x @ self.whitening
        kernel = torch.exp(-self.gamma * torch.cdist(x, self.landmarks).square())
        return kernel @ self.weight + self.bias


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
    kernel_map: "Nystroem", x: np.ndarray, label: np.ndarray, n_venues: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (L, K) and offset (K,) of mapped rows that fit their one-hot vectors; the offset is not penalised.

    Args:
        x: shape (N, D), taken a chunk at a time.
        label: shape (N,).
    """
    n_rows = len(x)
    target = np.eye(n_venues)
    mean = sum(mapped.sum(axis=0) for mapped, _ in _mapped(kernel_map, x, label)) / n_rows
    target_mean = target[label].mean(axis=0)
    gram = ridge * np.eye(len(mean))
    moment = np.zeros((len(mean), n_venues))
    for mapped, labels in _mapped(kernel_map, x, label):
        centred = mapped - mean
        gram += centred.T @ centred
        moment += centred.T @ (target[labels] - target_mean)
    weight = solve(gram, moment, assume_a="pos")
    return weight, target_mean - mean @ weight


def _mapped(kernel_map: "Nystroem", x: np.ndarray, label: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        yield kernel_map.transform(x[rows].astype(np.float64)), label[rows]
