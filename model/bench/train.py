"""Benchmark of an epoch of NMCL at the paper's size, on synthetic features."""

import statistics
import time
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
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
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings
from nmcl.model.train import train_network
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.progress import Progress, silent

TRAINING_ROWS = 132_371
"""49 % of the paper's 270,145 videos."""
MEMORIES = {"low_rank": 1, "full_memory": None}
"""Attention ranks to benchmark: the default of training and the paper's, one network each."""


EPOCHS = 3
"""Number of epochs; the first includes the start-up and is not counted."""
BATCHES_ON: dict[Device, int] = {"cpu": 1, "cuda": 20}
"""Factor for the number of batches: a GPU is too fast to time a few."""


@dataclass(frozen=True)
class Steps:
    """Number of batches per epoch; None for as many as in the paper."""

    low_rank: int | None = 10
    full_memory: int | None = 2


FULL = Steps(low_rank=None, full_memory=20)


def bench_train(size: Size = PAPER_SIZE, steps: Steps | None = None, progress: Progress = silent) -> Result:
    """Measure the seconds of an epoch: forward, backward, clipping and optimiser, and the validation of one row."""
    steps = steps or Steps()
    figures: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes = [f"one network on synthetic features: {size}"]
    todo = [(device, name) for device in devices() for name in MEMORIES]
    for done, (device, name) in enumerate(todo):
        progress("bench train", done, len(todo), f"{name}, {device}")
        settings = NMCLSettings(attention_rank=MEMORIES[name])
        wanted: int | None = getattr(steps, name)
        n_rows = TRAINING_ROWS if wanted is None else wanted * BATCHES_ON[device] * size.batch
        before = torch_gemm_flops_per_s(device)
        step_s = _epoch_s(settings, size, n_rows, device) * size.batch / n_rows
        rate = (before + torch_gemm_flops_per_s(device)) / 2
        floor_s = _flops(settings, size) / rate
        of_memory = {
            f"{name}_gemm_flops_per_s": rate,
            f"{name}_rows": float(n_rows),
            f"{name}_step_s": step_s,
            f"{name}_rows_per_s": size.batch / step_s,
            f"{name}_epoch_s": step_s * TRAINING_ROWS / size.batch,
            f"{name}_floor_step_s": floor_s,
        }
        figures |= named_by_device(device, of_memory)
        ratios |= named_by_device(device, {f"{name}_to_floor": step_s / floor_s})
        if wanted is not None:
            batches = n_rows // size.batch
            notes.append(f"{name}, {device}: {batches} batches, extrapolated to an epoch of {TRAINING_ROWS:,} rows")
    notes.append(
        "floor: matrix products of forward and backward as the program does them, at the float32 rate measured before "
        "and after; to_floor: that of the full memory, which is the paper's; low_rank is the default of training"
    )
    ratios["to_floor"] = ratios["full_memory_to_floor"]
    progress("bench train", len(todo), len(todo))
    return Result(figures, ratios, notes)


def _epoch_s(settings: NMCLSettings, size: Size, n_rows: int, device: Device) -> float:
    """Return the median seconds of the epochs after the first."""
    torch.manual_seed(0)
    training = replace(settings.train, max_epochs=EPOCHS, min_steps=1, batch_size=size.batch, device=device)
    ends: list[float] = []

    def epoch_ended(stage: str, done: int, total: int, note: str = "") -> None:
        ends.append(time.perf_counter())

    train_network(NMCL(size.shape, settings), training, size.rows(n_rows), size.rows(1), epoch_ended)
    return statistics.median(end - start for start, end in pairwise(ends))


def _flops(settings: NMCLSettings, size: Size) -> float:
    step = step_of(NMCL(size.shape, settings), size.rows(size.batch))
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())
