"""An epoch of NMCL at the paper's size, on synthetic features."""

from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.bench.synthetic import PAPER_SIZE, Size, step_of, torch_gemm_flops_per_s
from model.nmcl import NMCL, NMCLSettings
from model.train import train_network
from pipeline.bench.measure import seconds
from pipeline.bench.result import Result
from pipeline.progress import Progress, silent

TRAINING_ROWS = 132_371
"""49 % of the paper's 270,145 videos."""
MEMORIES = {"low_rank": 1, "full_memory": None}
"""The default of training, and the paper's; one network of each."""


@dataclass(frozen=True)
class Steps:
    """How many batches are trained on; None for all of an epoch."""

    low_rank: int | None = 10
    full_memory: int | None = 2


def bench_train(size: Size = PAPER_SIZE, steps: Steps | None = None, progress: Progress = silent) -> Result:
    """Seconds of an epoch: forward, backward, clipping and optimiser, validation apart."""
    steps = steps or Steps()
    rate = torch_gemm_flops_per_s()
    figures, ratios, notes = {"gemm_flops_per_s": rate}, {}, [f"one network on synthetic features: {size}"]
    for done, (name, rank) in enumerate(MEMORIES.items()):
        progress("bench train", done, len(MEMORIES), name)
        wanted: int | None = getattr(steps, name)
        n_rows = TRAINING_ROWS if wanted is None else wanted * size.batch
        epoch_s = _epoch_s(_settings(rank), size, n_rows)
        step_s = epoch_s * size.batch / n_rows
        flops = _flops(_settings(rank), size)
        figures |= {
            f"{name}_rows": float(n_rows),
            f"{name}_step_s": step_s,
            f"{name}_rows_per_s": size.batch / step_s,
            f"{name}_epoch_s": step_s * TRAINING_ROWS / size.batch,
            f"{name}_floor_step_s": flops / rate,
        }
        ratios[f"{name}_to_floor"] = step_s * rate / flops
        if wanted is not None:
            notes.append(f"{name}: {wanted} batches, extrapolated to an epoch of {TRAINING_ROWS:,} rows")
    notes.append(
        "floor: matrix products of forward and backward as the program does them, at the measured float32 rate"
    )
    ratios["to_floor"] = ratios["low_rank_to_floor"]
    progress("bench train", len(MEMORIES), len(MEMORIES))
    return Result(figures, ratios, notes)


def _settings(rank: int | None) -> NMCLSettings:
    return replace(NMCLSettings(), attention_rank=rank)


def _epoch_s(settings: NMCLSettings, size: Size, n_rows: int) -> float:
    """Seconds of one epoch, less those of one on a single batch, which pays for the start and the validation."""
    torch.manual_seed(0)
    network = NMCL(size.shape, settings)
    training = replace(settings.train, max_epochs=1, min_steps=1, batch_size=size.batch, device="cpu")
    validation = size.rows(size.batch)

    def train_on(n: int) -> float:
        rows = size.rows(n)
        return seconds(lambda: train_network(network, training, rows, validation, silent))

    train_on(size.batch)
    return train_on(n_rows + size.batch) - train_on(size.batch)


def _flops(settings: NMCLSettings, size: Size) -> float:
    step = step_of(NMCL(size.shape, settings), size.rows(size.batch))
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())
