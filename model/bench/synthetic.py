"""Synthetic data for benchmarks of the network: random features of the paper's size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nmcl.model.base import Shape
from nmcl.model.batches import Batches
from nmcl.model.data import Dataset
from nmcl.model.train import Network
from nmcl.pipeline.bench.measure import gemm_flops_per_s

Device = Literal["cpu", "cuda"]
GEMM_SIDE: dict[Device, int] = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of a matrix product that reaches the device's peak rate."""


def devices() -> list[Device]:
    """Return the devices to benchmark: the CPU, and a GPU if there is one."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def named_by_device(device: Device, values: dict[str, float]) -> dict[str, float]:
    """Return the values with the prefix `cuda_` in the names of a GPU's."""
    return values if device == "cpu" else {f"{device}_{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class Size:
    """Dimensions D_m, K and N of a step."""

    acoustic: int = 200
    textual: int = 100
    visual: int = 2048
    n_classes: int = 188
    batch: int = 256

    @property
    def shape(self) -> Shape:
        dims = {"acoustic": self.acoustic, "textual": self.textual, "visual": self.visual}
        return Shape(dims, tuple(f"class {k}" for k in range(self.n_classes)))

    def rows(self, n: int) -> Dataset:
        """Return n random rows with random labels, all observed: time and memory do not depend on the values."""
        rng = np.random.default_rng(0)
        features = {name: rng.standard_normal((n, d), dtype=np.float32) for name, d in self.shape.dims.items()}
        observed = {name: np.ones(n, bool) for name in features}
        return Dataset(features, observed, rng.integers(self.n_classes, size=n))

    def __str__(self) -> str:
        return f"{self.visual}/{self.acoustic}/{self.textual} features, {self.n_classes} venues, batch {self.batch}"


PAPER_SIZE = Size()


def step_of(network: Network, rows: Dataset, device: Device = "cpu") -> Callable[[], Tensor]:
    """Return a function that runs a forward and backward pass on all rows and returns the loss once it is computed."""
    features, observed, label = Batches(rows, torch.device(device))[np.arange(len(rows))]
    network.to(device).train()

    def step() -> Tensor:
        network.zero_grad()
        loss = network.loss(features, observed, label)
        loss.backward()  # type: ignore[no-untyped-call]
        _wait_for(device)
        return loss.detach()

    return step


def torch_gemm_flops_per_s(device: Device = "cpu") -> float:
    """Return the measured rate of torch's float32 matrix products; see `gemm_flops_per_s`."""

    def multiply(a: Tensor, b: Tensor) -> None:
        torch.mm(a, b)
        _wait_for(device)

    return gemm_flops_per_s(multiply, lambda a: torch.from_numpy(a).to(device), GEMM_SIDE[device])


def _wait_for(device: Device) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
