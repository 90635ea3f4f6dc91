"""Benchmark of one step of NMCL with the full attention memory, against a direct implementation of the equations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, get_args
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nmcl.model.bench.synthetic import (
    PAPER_SIZE,
    Device,
    Size,
    devices,
    named_by_device,
    step_of,
    torch_gemm_flops_per_s,
)
from nmcl.model.nmcl.attention import CategoryAttention
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings
from nmcl.model.train import multiplying
from nmcl.pipeline.bench.measure import in_new_process, in_turns, peak_bytes_above, seconds
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.progress import Progress, silent

Way = Literal["ours", "direct", "bfloat16", "low_rank"]
WAYS: tuple[Way, ...] = get_args(Way)
REPEATS = 3
STEPS_ON_GPU = 5
COUNTED_ROWS = 4
LOW_RANK = 1
"""Default rank of training."""


def bench_head(size: Size = PAPER_SIZE, repeats: int = REPEATS, progress: Progress = silent) -> Result:
    """Measure time and memory of one forward and backward pass."""
    flops = count_flops(size)
    figures: dict[str, float] = {"flops": flops}
    ratios: dict[str, float] = {}
    for device in devices():
        progress("bench head", 0, 1 + len(WAYS), f"steps in turns, {device}")
        measured = in_new_process(measure_times, size, repeats, device)
        measured["floor_s"] = flops / measured["gemm_flops_per_s"]
        for done, way in enumerate(WAYS, start=1):
            progress("bench head", done, 1 + len(WAYS), f"memory of {way}, {device}")
            measured[f"{way}_peak_bytes"] = in_new_process(measure_peak, way, size, device)
        figures |= named_by_device(device, measured)
        ratios |= named_by_device(device, _ratios(measured))
    progress("bench head", 1 + len(WAYS), 1 + len(WAYS))
    notes = [
        f"one forward and backward pass of one network on synthetic features: {size}",
        "ours: the full attention memory; direct: psi of shape N x K x D through autograd; "
        "bfloat16: ours with matrix products in bfloat16 where the hardware can (model.train.matmul=medium); "
        f"low_rank: a memory of rank {LOW_RANK}",
        "floor: matrix products of the direct formulation, forward and backward, at the measured float32 rate",
        "peak_bytes: memory above the parameters and inputs, resident on a CPU, allocated on a GPU",
    ]
    return Result(figures, ratios, notes)


def _ratios(measured: dict[str, float]) -> dict[str, float]:
    step_s, peak_bytes = ({way: measured[f"{way}_{name}"] for way in WAYS} for name in ("step_s", "peak_bytes"))
    ratios = {"to_floor": step_s["ours"] / measured["floor_s"]}
    for way in WAYS:
        if way != "direct":
            prefix = "" if way == "ours" else f"{way}_"
            ratios[f"{prefix}vs_naive_memory"] = peak_bytes[way] / peak_bytes["direct"]
            ratios[f"{prefix}vs_naive_time"] = step_s[way] / step_s["direct"]
    return ratios


def measure_times(size: Size, repeats: int, device: Device) -> dict[str, float]:
    """Return `gemm_flops_per_s`, and `step_s` of each way."""
    measures = {"gemm_flops_per_s": lambda: torch_gemm_flops_per_s(device)}
    return in_turns(measures | {f"{way}_step_s": _timed(way, size, device) for way in WAYS}, repeats)


def _timed(way: Way, size: Size, device: Device) -> Callable[[], float]:
    """Return a function that times a step. On a GPU the first step is a warm-up, as libraries are slow in it."""
    step = step_of(network_of(way, size), size.rows(size.batch), device)

    def measure() -> float:
        with computed(way):
            return seconds(step) if device == "cpu" else seconds(step, STEPS_ON_GPU, warm_up=1)

    return measure


def measure_peak(way: Way, size: Size, device: Device) -> float:
    """Return the peak memory of a step in bytes; call it in a new process, where nothing is allocated yet."""
    step = step_of(network_of(way, size), size.rows(size.batch), device)
    with computed(way):
        if device == "cpu":
            return float(peak_bytes_above(step))
        step()  # libraries allocate their own memory in the first step
        return float(_peak_bytes_on_gpu(step))


def _peak_bytes_on_gpu(work: Callable[[], object]) -> int:
    """Return how much the allocated memory rises while `work` runs, in bytes."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


def count_flops(size: Size) -> float:
    """Return the operations in the matrix products of a direct step, extrapolated from a few rows."""
    step = step_of(network_of("direct", size), size.rows(COUNTED_ROWS))
    with computed("direct"), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops()) * size.batch / COUNTED_ROWS


def network_of(way: Way, size: Size) -> NMCL:
    """Return a network with the same weights for each way, except for those of the memory."""
    torch.manual_seed(0)
    rank = LOW_RANK if way == "low_rank" else None
    return NMCL(size.shape, NMCLSettings(attention_rank=rank))


@contextmanager
def computed(way: Way) -> Iterator[None]:
    """Compute heads this way within the block."""
    directly = patch.object(CategoryAttention, "apply", direct_logits) if way == "direct" else nullcontext()
    with directly, multiplying("medium" if way == "bfloat16" else "highest"):
        yield


def direct_logits(x: Tensor, memory: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor, keep: Tensor) -> Tensor:
    """Compute eq. 15 to 17 as printed; shapes as in `CategoryAttention`."""
    psi = x[:, None, :] * memory
    theta = torch.relu(psi @ weight.T + bias) * keep[:, None, :]
    return (theta * vectors).sum(dim=2)
