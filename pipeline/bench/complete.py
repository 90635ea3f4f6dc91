"""ALS-WR at the paper's size: a sweep against its own matrix products, its memory, and implicit's ALS beside it."""

from dataclasses import dataclass

import numpy as np

from pipeline.bench.measure import gemm_flops_per_s, in_new_process, peak_bytes_above, seconds
from pipeline.bench.result import Result
from pipeline.completion import als
from pipeline.completion.base import Blocks, Completer, CompletionSettings
from pipeline.completion.held_out import held_out_nrmse
from pipeline.completion.implicit_als import ImplicitCompleter, sweep_times_s
from pipeline.completion.scaling import fit_scaling
from pipeline.completion.table import Table, check
from pipeline.progress import Progress, silent

PAPER_ROWS = 270_145
DIMS = {"acoustic": 200, "textual": 100, "visual": 2048}
MISSING = {"acoustic": 169 / PAPER_ROWS, "textual": 24_707 / PAPER_ROWS, "visual": 0.0}
"""Shares of the paper's section 4.3."""
TRUE_RANK = 50
NOISE = 1.0
"""Standard deviation of what no factor explains; that of what they explain is 1."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rows: int = 40_000
    rank: int = 100
    sweeps: int = 3
    peer_rows: int = 10_000
    """Rows on which implicit's ALS is timed."""
    peer_sweeps: int = 2
    held_out_rows: int = 1500
    held_out_sweeps: int = 8


FULL = Size(rows=PAPER_ROWS, sweeps=5, peer_sweeps=4, held_out_rows=10_000, held_out_sweeps=15)


def bench_complete(size: Size | None = None, progress: Progress = silent) -> Result:
    """A sweep, all of a fit and a completion, and the peer."""
    size = size or Size()
    progress("bench complete", 0, 4, "sweeps")
    ours = in_new_process(measure_als, size)
    progress("bench complete", 1, 4, "memory")
    peak = in_new_process(measure_memory, size)
    progress("bench complete", 2, 4, "implicit")
    peer = in_new_process(measure_peer, size)
    progress("bench complete", 3, 4, "held-out error")
    errors = in_new_process(measure_error, size)
    progress("bench complete", 4, 4)
    matrix_bytes = float(size.rows * sum(DIMS.values()) * 4)
    figures = {"rows": float(size.rows), "matrix_bytes": matrix_bytes, "peak_bytes": peak, **ours, **peer, **errors}
    ratios = {
        "to_floor": ours["sweep_s"] / ours["floor_sweep_s"],
        "peak_over_matrix": peak / matrix_bytes,
        "vs_implicit_sweep_time": peer["peer_rows_sweep_s"] / peer["implicit_sweep_s"],
        "vs_implicit_error": errors["als_nrmse"] / errors["implicit_nrmse"],
    }
    columns = " + ".join(str(d) for d in DIMS.values())
    notes = [
        f"synthetic features of rank {TRUE_RANK} and as much noise, {size.rows:,} x ({columns}), rank {size.rank}",
        "floor: Z F, U^T U and U^T Z of one sweep at the measured float32 rate",
        "peak_bytes: the matrix and all that a fit of two sweeps and a completion take besides",
        f"implicit: its own sweeps on the likings it is given of the same {size.peer_rows:,} rows; {size.peer_sweeps} "
        "sweeps, the first not counted",
        f"held-out error on {size.held_out_rows:,} rows, {size.held_out_sweeps} sweeps at most of either; implicit "
        "works on a sample of them where they are too many for it",
    ]
    if size.rows < PAPER_ROWS:
        notes.append(f"reduced: the paper's matrix has {PAPER_ROWS:,} rows; --full measures those")
    return Result(figures, ratios, notes)


def synthetic(n_rows: int) -> Blocks:
    """Features of a low rank and noise, whole blocks missing as often as in the paper."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((n_rows, TRUE_RANK), dtype=np.float32)
    blocks = {}
    for name, d in DIMS.items():
        blocks[name] = hidden @ (rng.standard_normal((TRUE_RANK, d), dtype=np.float32) / np.sqrt(np.float32(TRUE_RANK)))
        for start in range(0, n_rows, 4096):
            part = blocks[name][start : start + 4096]
            part += np.float32(NOISE) * rng.standard_normal(part.shape, dtype=np.float32)
        blocks[name][rng.random(n_rows) < MISSING[name]] = np.nan
    return blocks


def measure_als(size: Size) -> dict[str, float]:
    """Seconds of a sweep, of what comes before, and of the floor."""
    blocks = synthetic(size.rows)
    table = check(blocks)
    prepare_s = seconds(lambda: fit_scaling(check(blocks), balance=False))
    rate = gemm_flops_per_s(np.matmul)
    sweep_s = _sweep_s(table, size)
    state = als.AlsCompleter(_settings(size, sweeps=1)).fit(blocks)
    complete_s = seconds(lambda: als.AlsCompleter(_settings(size, sweeps=1)).complete(blocks, state))
    flops = _sweep_flops(table, size.rank)
    return {
        "gemm_flops_per_s": rate,
        "prepare_s": prepare_s,
        "sweep_s": sweep_s,
        "sweep_flops": flops,
        "floor_sweep_s": flops / rate,
        "complete_s": complete_s,
    }


def _settings(size: Size, sweeps: int) -> CompletionSettings:
    return CompletionSettings(rank=size.rank, regularization=0.05, sweeps=sweeps, tolerance=0.0)


def _sweep_s(table: Table, size: Size) -> float:
    """Median of some sweeps, each going on from the one before."""
    scaling = fit_scaling(table, balance=False)
    settings = _settings(size, size.sweeps)
    factors = als.start(table, settings)

    def sweep() -> None:
        nonlocal factors
        factors, _ = als.sweep(table, scaling, factors, 0.05)

    return seconds(sweep, size.sweeps, warm_up=1)


def _sweep_flops(table: Table, rank: int) -> float:
    """Z F and U^T Z over what is observed, and U^T U."""
    observed = sum(n * table.dims[name] for name, n in table.n_observed.items())
    return 4.0 * observed * rank + 2.0 * table.n_rows * rank**2


def measure_memory(size: Size) -> float:
    """Bytes of the matrix and of what fitting and completing it takes."""
    blocks = synthetic(size.rows)
    completer = als.AlsCompleter(_settings(size, sweeps=2))
    extra = peak_bytes_above(lambda: completer.complete(blocks, completer.fit(blocks)))
    return float(extra + sum(block.nbytes for block in blocks.values()))


def measure_peer(size: Size) -> dict[str, float]:
    """Seconds of a sweep of ours and of implicit's on the same rows."""
    table = check(synthetic(size.peer_rows))
    ours = _sweep_s(table, size)
    times = sweep_times_s(table, _settings(size, size.peer_sweeps))
    return {"peer_rows_sweep_s": ours, "implicit_sweep_s": float(np.median(times[1:]))}


def measure_error(size: Size) -> dict[str, float]:
    """Error of both on the same hidden blocks."""
    settings = _settings(size, size.held_out_sweeps)
    completers: dict[str, Completer] = {"als": als.AlsCompleter(settings), "implicit": ImplicitCompleter(settings)}
    found = held_out_nrmse(synthetic(size.held_out_rows), completers, seed=0)["nrmse"]
    return {f"{name}_nrmse": float(scores["overall"]) for name, scores in found.items()}
