"""Inference of convolutional networks: OpenVINO on a CPU, torch on a GPU. The only module that imports OpenVINO.

On two cores OpenVINO takes a third to two thirds of eager torch's time in float32, and with AMX a sixth in bfloat16.
"""

import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from nmcl.extractors.preprocess import Preprocess
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.text import listed

if TYPE_CHECKING:
    from openvino import InferRequest

BATCH_FRAMES = {"cpu": 16, "cuda": 64}
"""Frames per forward pass. A smaller last batch is padded, so that a vector does not depend on its neighbours."""

Run = Callable[[np.ndarray], np.ndarray]
"""Function that maps frames (n, side, side, 3), uint8, RGB, to features (n, dim), float32."""


class _FromPixels(nn.Module):
    """Wraps a network so that it takes uint8 pixels."""

    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(1, 3, 1, 1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        scaled = frames.permute(0, 3, 1, 2).float() / 255  # channels last in memory
        features: torch.Tensor = self.network((scaled - self.mean) / self.std)
        return features


def load(network: nn.Module, preprocess: Preprocess, device: str, bfloat16: bool) -> Run:
    """Prepare a network for inference.

    Args:
        network: In evaluation mode; maps (n, 3, side, side) float32 to (n, dim).
        preprocess: The preprocessing that the network was trained with.
        device: A torch device name, such as `cpu` or `cuda:1`.
        bfloat16: Multiply in bfloat16 instead of float32.
    """
    whole = _FromPixels(network, preprocess).eval()
    if torch.device(device).type == "cpu":
        return _on_cpu(whole, preprocess.crop, bfloat16)
    return _on_torch(whole, torch.device(device), bfloat16)


def require_device(name: str) -> None:
    """Raise SettingsError unless the torch device `name` exists on this machine and computes."""
    try:
        works = float(torch.ones(4, device=name).sum()) == 4
        found = "it does not compute"
    except Exception as error:  # noqa: BLE001  # torch raises errors of many types
        works, found = False, str(error).split("\n")[0]
    if not works:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise SettingsError(
            f"device is {name!r}, which this machine does not have ({found}). Expected "
            f"{listed(['auto', 'cpu', *gpus])}: --set features.NAME.device=auto"
        )


def gpus() -> list[str]:
    """Return the name and the memory of each GPU that torch can use."""
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GB" for gpu in found]


def has_bfloat16(device: str) -> bool:
    """Return whether a device has instructions for bfloat16 products."""
    if torch.device(device).type == "cpu":
        return "BF16" in _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _openvino() -> Any:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report each use
    import openvino

    return openvino


def _batches(frames: np.ndarray, size: int) -> Iterator[np.ndarray]:
    padded = np.concatenate([frames, np.zeros((-len(frames) % size, *frames.shape[1:]), frames.dtype)])
    yield from np.split(padded, len(padded) // size)


def in_batches(run: Run, size: int) -> Run:
    """Return a function that runs batches of one size, so that a vector does not depend on its neighbours."""
    return lambda frames: np.concatenate([run(batch) for batch in _batches(frames, size)])[: len(frames)]


def _on_cpu(network: nn.Module, side: int, bfloat16: bool) -> Run:
    ov = _openvino()
    example = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated; OpenVINO cannot read its replacement yet
        traced: Any = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, example_input=example)
    size = BATCH_FRAMES["cpu"]
    model.reshape([size, side, side, 3])
    n_threads = torch.get_num_threads()
    hints = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": n_threads,
        "NUM_STREAMS": n_threads,  # one core per batch
        "ENABLE_CPU_PINNING": False,  # would pin several workers to the same core
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
    }
    compiled = ov.Core().compile_model(model, "CPU", hints)

    def run(frames: np.ndarray) -> np.ndarray:
        # Not an AsyncInferQueue: after `wait_all`, its threads may still be in a Python callback. Deleting it then
        # hangs, as they wait for the interpreter lock, or corrupts memory.
        features: list[np.ndarray] = []
        running: deque[InferRequest] = deque()

        def finish(request: "InferRequest") -> None:
            request.wait()
            features.append(request.get_output_tensor().data.copy())

        for batch in _batches(frames, size):
            if len(running) < n_threads:
                request = compiled.create_infer_request()
            else:
                finish(request := running.popleft())
            request.start_async([batch])
            running.append(request)
        for request in running:
            finish(request)
        return np.concatenate(features)[: len(frames)]

    return run


def _pinned(batch: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return the batch in pinned memory, which CUDA copies asynchronously."""
    tensor = torch.from_numpy(batch)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _on_torch(network: nn.Module, device: torch.device, bfloat16: bool) -> Run:
    network = network.to(device).to(memory_format=torch.channels_last)
    size = BATCH_FRAMES.get(device.type, BATCH_FRAMES["cpu"])

    @torch.inference_mode()
    def run(frames: np.ndarray) -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            batches = (_pinned(batch, device) for batch in _batches(frames, size))
            features = [network(batch.to(device, non_blocking=True)) for batch in batches]
        whole: np.ndarray = torch.cat(features).float().cpu().numpy()
        return whole[: len(frames)]

    return run
