"""What benches of the network work on: random features of the paper's size."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.base import Shape
from model.data import Dataset
from model.train import Network, tensors
from pipeline.bench.measure import gemm_flops_per_s


@dataclass(frozen=True)
class Size:
    """D_m, K and N of a step."""

    acoustic: int = 200
    textual: int = 100
    visual: int = 2048
    n_venues: int = 188
    batch: int = 256

    @property
    def shape(self) -> Shape:
        dims = {"acoustic": self.acoustic, "textual": self.textual, "visual": self.visual}
        return Shape(dims, tuple(f"venue {k}" for k in range(self.n_venues)))

    def rows(self, n: int) -> Dataset:
        """n random rows with random labels, all observed: time and memory do not depend on the values."""
        rng = np.random.default_rng(0)
        features = {name: rng.standard_normal((n, d), dtype=np.float32) for name, d in self.shape.dims.items()}
        observed = {name: np.ones(n, bool) for name in features}
        return Dataset(features, observed, rng.integers(self.n_venues, size=n))

    def __str__(self) -> str:
        return f"{self.visual}/{self.acoustic}/{self.textual} features, {self.n_venues} venues, batch {self.batch}"


PAPER_SIZE = Size()


def step_of(network: Network, rows: Dataset) -> Callable[[], Tensor]:
    """One forward and backward pass on all of the rows, as a call that returns the loss."""
    batch = tensors(rows, slice(None), torch.device("cpu"))
    label = torch.from_numpy(rows.label)
    network.train()

    def step() -> Tensor:
        network.zero_grad()
        loss = network.loss(*batch, label)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return step


def torch_gemm_flops_per_s() -> float:
    """See `gemm_flops_per_s`."""
    return gemm_flops_per_s(torch.mm, torch.from_numpy)
