"""Kernel ridge by a dense solve of its optimality conditions."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nmcl.model.base import Classifier
from nmcl.model.baselines.kernel_ridge import KernelRidgeSettings
from nmcl.model.data import Dataset


def scores(model: Classifier, factor: Tensor, modalities: Mapping[str, np.ndarray]) -> np.ndarray:
    """Fits of the one-hot vectors, from log-probabilities: up to a constant of each row."""
    with torch.inference_mode():
        features = {name: torch.from_numpy(array) for name, array in modalities.items()}
        found = (model(features, {}).log_probability / factor).numpy()
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def dense_kernel_ridge(train: Dataset, test: Dataset, settings: KernelRidgeSettings) -> np.ndarray:
    """The bordered system of a least-squares support vector machine: (K + ridge I) A + 1 c = Y, 1 A = 0."""
    x, other = train.side_by_side().astype(np.float64), test.side_by_side().astype(np.float64)
    edges, n = np.cumsum([0, *train.dims.values()]), len(x)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squares = (a[:, None, :] - b[None, :, :]) ** 2
        parts = [squares[:, :, i:j].mean(axis=2) for i, j in pairwise(edges)]
        parts += [squares.mean(axis=2)] if len(parts) > 1 else []
        return np.mean(np.exp(-settings.width * np.stack(parts)), axis=0)

    system = np.ones((n + 1, n + 1))
    system[:n, :n] = kernel(x, x) + settings.ridge * np.eye(n)
    system[n, n] = 0.0
    solution = np.linalg.solve(system, np.concatenate([np.eye(4)[train.label], np.zeros((1, 4))]))
    found = kernel(other, x) @ solution[:n] + solution[n]
    return np.asarray(found - found.mean(axis=1, keepdims=True))
