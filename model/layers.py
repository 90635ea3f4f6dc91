"""Fully connected layers with the paper's initialisation: Xavier weights (section 5.1.3), zero biases."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Largest number of elements (16 and 256 MiB in float32) of the scaled weights of one chunk of categories, but at least
one category. A GPU has the memory and is slow on many small kernels."""


def categories_per_chunk(n_rows: int, n_features: int, n_categories: int, device: str = "cpu") -> int:
    """Return how many categories to process at once: at least 1, and never all of several."""
    return max(1, min(CHUNK_ELEMENTS[device] // max(1, n_rows * n_features), n_categories // 2))


def xavier_linear(n_in: int, n_out: int, gain: float = 1.0) -> nn.Linear:
    """Create a linear layer, (N, n_in) -> (N, n_out), with Xavier weights and zero biases."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


def perceptron(
    n_features: int, widths: Sequence[int], n_classes: int, dropout: float, batch_norm: bool = False
) -> nn.Sequential:
    """Create a multilayer perceptron from (N, n_features) to logits (N, n_classes).

    Args:
        widths: width of each hidden layer, which is linear, optional batch normalisation, ReLU and dropout.
        dropout: dropout rate of the hidden units, 0..1.
        batch_norm: whether to batch-normalise the hidden layers.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in zip([n_features, *widths], widths, strict=False):
        layers.append(xavier_linear(n_in, n_out))
        if batch_norm:
            layers.append(BatchNorm(n_out))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, xavier_linear(widths[-1] if widths else n_features, n_classes))


class BatchNorm(nn.Module):
    """Batch normalisation like `nn.BatchNorm1d` that also accepts a batch of a single row in training.

    A single row has no variance, so it is normalised by the running mean and variance and does not update them.
    There is no batch counter: all state of a model is float32.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows of shape (N, width)."""
        from_batch = self.training and len(x) > 1
        return functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias, training=from_batch)
