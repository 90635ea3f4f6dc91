"""One step of NMCL with the full attention memory, against the equations written down directly."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Literal, get_args
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.attention import CategoryAttention
from model.bench.synthetic import PAPER_SIZE, Device, Size, devices, step_of, told, torch_gemm_flops_per_s
from model.nmcl import NMCL, NMCLSettings
from model.train import multiplying
from pipeline.bench.measure import in_new_process, peak_bytes_above, seconds
from pipeline.bench.result import Result
from pipeline.progress import Progress, silent

Way = Literal["ours", "direct", "bfloat16", "low_rank"]
WAYS: tuple[Way, ...] = get_args(Way)
REPEATS = 3
COUNTED_ROWS = 4
LOW_RANK = 1
"""The rank that is the default of training."""


def bench_head(size: Size = PAPER_SIZE, repeats: int = REPEATS, progress: Progress = silent) -> Result:
    """Time and memory of one forward and backward pass; each way in a process of its own."""
    flops = count_flops(size)
    figures: dict[str, float] = {"flops": flops}
    ratios: dict[str, float] = {}
    todo = [(device, way) for device in devices() for way in WAYS]
    measured = {}
    for done, (device, way) in enumerate(todo):
        progress("bench head", done, len(todo), f"{way}, {device}")
        measured[device, way] = in_new_process(measure, way, size, repeats, device)
    for device in devices():
        of_ways = {way: measured[device, way] for way in WAYS}
        rate = torch_gemm_flops_per_s(device)
        floor_s = flops / rate
        of_device = {"gemm_flops_per_s": rate, "floor_s": floor_s}
        of_device |= {f"{way}_{name}": value for way, of_way in of_ways.items() for name, value in of_way.items()}
        figures |= told(device, of_device)
        ratios |= told(device, _ratios(of_ways, floor_s))
    notes = [
        f"one forward and backward pass of one network on synthetic features: {size}",
        "ours: the full attention memory; direct: psi of shape N x K x D through autograd; "
        "bfloat16: ours with matrix products in bfloat16 where the hardware can (model.train.matmul=medium); "
        f"low_rank: a memory of rank {LOW_RANK}",
        "floor: matrix products of the direct formulation, forward and backward, at the measured float32 rate",
        "peak_bytes: memory above the parameters and inputs, resident on a CPU, allocated on a GPU",
    ]
    progress("bench head", len(todo), len(todo))
    return Result(figures, ratios, notes)


def _ratios(measured: dict[Way, dict[str, float]], floor_s: float) -> dict[str, float]:
    ours, direct = measured["ours"], measured["direct"]
    ratios = {
        "vs_naive_memory": ours["peak_bytes"] / direct["peak_bytes"],
        "vs_naive_time": ours["step_s"] / direct["step_s"],
        "to_floor": ours["step_s"] / floor_s,
    }
    other_ways: tuple[Way, ...] = ("bfloat16", "low_rank")
    for way in other_ways:
        ratios[f"{way}_vs_naive_memory"] = measured[way]["peak_bytes"] / direct["peak_bytes"]
        ratios[f"{way}_vs_naive_time"] = measured[way]["step_s"] / direct["step_s"]
    return ratios


def measure(way: Way, size: Size, repeats: int, device: Device) -> dict[str, float]:
    """`step_s` and `peak_bytes` of one way."""
    step = step_of(network_of(way, size), size.rows(size.batch), device)
    with computed(way):
        if device == "cpu":
            peak = peak_bytes_above(step)
        else:
            step()  # libraries take room of their own in the first
            peak = _peak_bytes_on_gpu(step)
        return {"step_s": seconds(step, repeats), "peak_bytes": float(peak)}


def _peak_bytes_on_gpu(work: Callable[[], object]) -> int:
    """How far the allocated memory rises while `work` runs."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before


def count_flops(size: Size) -> float:
    """Operations in the matrix products of a direct step. They grow with the rows, so few are counted."""
    step = step_of(network_of("direct", size), size.rows(COUNTED_ROWS))
    with computed("direct"), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops()) * size.batch / COUNTED_ROWS


def network_of(way: Way, size: Size) -> NMCL:
    """The same weights whichever the way, but for those of the memory."""
    torch.manual_seed(0)
    rank = LOW_RANK if way == "low_rank" else None
    return NMCL(size.shape, replace(NMCLSettings(), attention_rank=rank))


@contextmanager
def computed(way: Way) -> Iterator[None]:
    """Within the block, heads are computed this way."""
    directly = patch.object(CategoryAttention, "apply", direct_logits) if way == "direct" else nullcontext()
    with directly, multiplying("medium" if way == "bfloat16" else "highest"):
        yield


def direct_logits(x: Tensor, memory: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor, keep: Tensor) -> Tensor:
    """Equations 15 to 17 as they are written; shapes as in `CategoryAttention`."""
    psi = x[:, None, :] * memory
    theta = torch.relu(psi @ weight.T + bias) * keep[:, None, :]
    return (theta * vectors).sum(dim=2)
