"""Mahalanobis: kernel ridge on features whitened by the within-class covariance."""

import numpy as np
import scipy  # its modules load when they are used: most predictions need none of them
import torch
from torch import Tensor

from nmcl.model.base import Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.baselines.kernel_ridge import CHUNK, KernelRidge, KernelRidgeSettings
from nmcl.model.data import Dataset
from nmcl.pipeline.progress import Progress

WHITE = "white"
"""Name of the kernel's single modality."""
LEAST = 1e-3
"""Lower bound of the shrinkage: directions that hardly vary within training classes may vary in other data."""


class Mahalanobis(Member):
    """`KernelRidge` on whitened features x V, one vector for all modalities.

    V is that of `within_class_whitening`, scaled such that the training rows have a mean square of 1. Directions that
    vary within classes are scaled down and those of small variance are scaled up, so it errs on other rows than plain
    kernel ridge. For D features it takes N D^2 + D^3 operations and D^2 numbers more.
    """

    whitening: Tensor

    def __init__(self, shape: Shape, settings: KernelRidgeSettings) -> None:
        super().__init__()
        self.settings = settings
        n_features = sum(shape.dims.values())
        self.ridge = KernelRidge(Shape({WHITE: n_features}, shape.classes), settings)
        self.register_buffer("whitening", torch.zeros(n_features, n_features))
        if not self.whitening.is_meta:  # torch would load its compiler for that, which takes seconds
            self.whitening.fill_diagonal_(1.0)

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        white = self._whitened(train)
        other = torch.from_numpy(validation.side_by_side()) @ self.whitening
        return self.ridge.fit(white, Dataset({WHITE: other.numpy()}, {}, validation.label), seed, progress)

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        self.ridge.refit(self._whitened(rows), seed, progress)

    def _whitened(self, rows: Dataset) -> Dataset:
        """Fit the whitening and return the rows whitened."""
        x = rows.side_by_side()
        whitening = within_class_whitening(x, rows.label)
        white: np.ndarray = x @ whitening
        scale = np.float32(np.sqrt(np.mean(np.square(white), dtype=np.float64)) or 1)
        self.whitening.copy_(torch.from_numpy(whitening / scale))
        return Dataset({WHITE: white / scale}, {}, rows.label)

    def forward(self, features: Features, observed: Mask) -> Output:
        decided: Output = self.ridge({WHITE: torch.cat(list(features.values()), dim=1) @ self.whitening}, {})
        return decided


def within_class_whitening(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the within-class whitening matrix V, shape (D, D), float32.

    V = ((1 - r) S + r m I)^-1/2 with S the covariance within classes and m its mean variance: Hatch, Kajarekar and
    Stolcke, "Within-class covariance normalization for SVM-based speaker recognition", 2006. The shrinkage r is that of
    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004, Lemmas 3.2 to 3.4:
    near 0 with many more rows than features, near 1 with few. V is I if nothing varies within classes.

    Args:
        x: shape (N, D).
        label: shape (N,).
    """
    n_rows, n_features = x.shape
    variance, direction, fourth_moment = _within_classes(x, label)
    mean_variance = variance.sum() / n_features
    if mean_variance == 0:
        return np.eye(n_features, dtype=np.float32)
    squares = (variance**2).sum()
    distance = squares - n_features * mean_variance**2
    error = (fourth_moment - squares) / n_rows
    shrinkage = np.clip(error / distance, LEAST, 1) if distance > 0 else 1.0

    rest = 1 / np.sqrt(shrinkage * mean_variance)
    scale = 1 / np.sqrt((1 - shrinkage) * np.maximum(variance, 0) + shrinkage * mean_variance)
    whitening: np.ndarray = rest * np.eye(n_features) + (direction * (scale - rest)) @ direction.T
    return whitening.astype(np.float32)


def _within_classes(x: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return eigenvalues and eigenvectors of the within-class covariance, and the mean of ||z||^4.

    z is a row minus its class mean. Eigenvalues that are left out are 0.
    """
    n_rows, n_features = x.shape
    classes, member = np.unique(label, return_inverse=True)
    means = np.stack([x[label == k].mean(axis=0, dtype=np.float64) for k in classes])
    if n_rows < n_features:
        centred = x - means[member]
        variance, left = scipy.linalg.eigh(centred @ centred.T / n_rows)
        kept = variance > 1e-9 * variance[-1]
        variance, direction = variance[kept], centred.T @ (left[:, kept] / np.sqrt(n_rows * variance[kept]))
        return variance, direction, float(np.mean((centred**2).sum(axis=1) ** 2))
    covariance, fourth_moment = np.zeros((n_features, n_features)), 0.0
    for start in range(0, n_rows, CHUNK):
        centred = x[start : start + CHUNK] - means[member[start : start + CHUNK]]
        covariance += centred.T @ centred / n_rows
        fourth_moment += float(((centred**2).sum(axis=1) ** 2).sum()) / n_rows
    variance, direction = scipy.linalg.eigh(covariance)
    return variance, direction, fourth_moment
