"""Mahalanobis: kernel ridge on distances that are measured in units of what varies within venues."""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from annotated_types import Gt
from scipy.linalg import eigh
from torch import Tensor

from model.base import Epoch, Features, Mask, Output, Shape, VenueModel
from model.baselines.kernel_ridge import CHUNK, KernelRidge, KernelRidgeSettings
from model.data import Dataset
from pipeline.progress import Progress

WHITE = "white"
"""The one modality of the kernel."""


@dataclass(frozen=True)
class MahalanobisSettings:
    """Defaults were chosen on splits of nine sets of features."""

    shrinkage: Annotated[float, Gt(0)] = 0.03
    """Variance added in all directions, in units of a standardised feature's."""
    kernel: KernelRidgeSettings = field(default_factory=KernelRidgeSettings)


class Mahalanobis(VenueModel):
    """`KernelRidge` on x V, one vector for all modalities, with V of `within_class_whitening` scaled such that the
    training rows have a mean square of 1.

    What varies within venues is scaled down, and directions of small variance are seen: it errs on other rows than
    kernel ridge on features as they are. For D features it takes N D^2 + D^3 operations and D^2 numbers more.
    """

    whitening: Tensor

    def __init__(self, shape: Shape, settings: MahalanobisSettings) -> None:
        super().__init__()
        self.settings = settings
        n_features = sum(shape.dims.values())
        self.ridge = KernelRidge(Shape({WHITE: n_features}, shape.venues), settings.kernel)
        self.register_buffer("whitening", torch.eye(n_features))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        x = train.side_by_side()
        whitening = within_class_whitening(x, train.label, self.settings.shrinkage)
        white: np.ndarray = x @ whitening
        scale = np.float32(np.sqrt(np.mean(np.square(white), dtype=np.float64)) or 1)
        self.whitening.copy_(torch.from_numpy(whitening / scale))
        white /= scale
        other = torch.from_numpy(validation.side_by_side()) @ self.whitening
        return self.ridge.fit(
            Dataset({WHITE: white}, {}, train.label),
            Dataset({WHITE: other.numpy()}, {}, validation.label),
            seed,
            progress,
        )

    def forward(self, features: Features, observed: Mask) -> Output:
        decided: Output = self.ridge({WHITE: torch.cat(list(features.values()), dim=1) @ self.whitening}, {})
        return decided


def within_class_whitening(x: np.ndarray, label: np.ndarray, shrinkage: float) -> np.ndarray:
    """V = (S + shrinkage I)^-1/2 with S the covariance within classes, shape (D, D), float32.

    Hatch, Kajarekar and Stolcke, "Within-class covariance normalization for SVM-based speaker recognition", 2006.

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
