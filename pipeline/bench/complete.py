"""Benchmark of ALS-WR at the paper's size: a sweep against its own matrix products, memory, and implicit's ALS."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nmcl.pipeline.bench.measure import gemm_flops_per_s, in_new_process, in_turns, peak_bytes_above, seconds
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.completion import als
from nmcl.pipeline.completion.base import Blocks, Completer, CompletionSettings, Pattern
from nmcl.pipeline.completion.held_out import held_out_nrmse
from nmcl.pipeline.completion.implicit_als import ImplicitCompleter, sweep_times_s
from nmcl.pipeline.completion.scaling import fit_scaling
from nmcl.pipeline.completion.table import check, walk
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent

PAPER_ROWS = 270_145
DIMS = {"acoustic": 200, "textual": 100, "visual": 2048}
MISSING = {"acoustic": 169 / PAPER_ROWS, "textual": 24_707 / PAPER_ROWS, "visual": 0.0}
"""Missing shares of the paper's section 4.3."""
TRUE_RANK = 50
LAMBDA = 0.05
NOISE = 1.0
"""Standard deviation of the noise; that of the low-rank part is 1."""


@dataclass(frozen=True)
class Size:
    """Frozen sizes of the benchmark."""

    rows: int = 100_000
    rank: int = 100
    sweeps: int = 20
    """Sweeps per fit: between the few that a tolerance of 1e-4 may need and the maximum of 50."""
    repeats: int = 3
    peer_rows: int = 10_000
    """Rows on which implicit's ALS is timed."""
    peer_sweeps: int = 2
    held_out_rows: int = 1500
    held_out_sweeps: int = 8


FULL = Size(rows=PAPER_ROWS, peer_sweeps=4, held_out_rows=10_000, held_out_sweeps=15)


def bench_complete(size: Size | None = None, progress: Progress = silent) -> Result:
    """Benchmark a sweep, a whole fit, a completion, and implicit's ALS."""
    size = size or Size()
    figures = {"rows": float(size.rows), "matrix_bytes": float(size.rows * sum(DIMS.values()) * 4)}
    for done, (what, measure) in enumerate(MEASURES.items()):
        progress("bench complete", done, len(MEASURES), what)
        figures |= in_new_process(measure, size)
    progress("bench complete", len(MEASURES), len(MEASURES))
    ratios = {
        "to_floor": figures["fit_s"] / figures["floor_fit_s"],
        "vs_row_by_row_floor": figures["fit_s"] / figures["floor_of_row_by_row_fit_s"],
        "peak_over_matrix": figures["peak_bytes"] / figures["matrix_bytes"],
        "vs_implicit_sweep_time": figures["peer_rows_sweep_s"] / figures["implicit_sweep_s"],
        "vs_implicit_error": figures["als_nrmse"] / figures["implicit_nrmse"],
    }
    columns = " + ".join(str(d) for d in DIMS.values())
    notes = [
        f"synthetic features of rank {TRUE_RANK} plus as much noise, {size.rows:,} x ({columns}), rank {size.rank}",
        f"fit_s: one pass for Z^T Z of each pattern and {size.sweeps} sweeps on them; without prepare_s (checks, "
        "means, deviations) and the choice of lambda",
        "floor: these matrix products at the measured float32 rate; of_row_by_row: those of the same number of sweeps "
        "over all rows, U = Z F and U^T Z",
        "peak_bytes: the matrix plus the memory of a fit with two sweeps and a completion",
        f"peer_rows_sweep_s: one sweep over {size.peer_rows:,} rows plus 1/{size.sweeps} of the pass",
        f"implicit_sweep_s: one of implicit's sweeps on the same rows, given as confidences; {size.peer_sweeps} "
        "sweeps, without the first",
        f"held-out error on {size.held_out_rows:,} rows, at most {size.held_out_sweeps} sweeps each; implicit uses a "
        "sample if there are too many rows",
    ]
    if size.rows < PAPER_ROWS:
        notes.append(f"reduced: the paper's matrix has {PAPER_ROWS:,} rows; --full measures those")
    return Result(figures, ratios, notes)


def synthetic(n_rows: int) -> Blocks:
    """Return low-rank features plus noise, with whole blocks missing as often as in the paper."""
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
    """Return the seconds of each step of a fit, and of its matrix products."""
    blocks = synthetic(size.rows)
    table = check(blocks)
    scaling = fit_scaling(table, balance=False)
    completer = als.AlsCompleter(_settings(size, sweeps=1))
    state = completer.fit(blocks)
    sweep = _sweeps(table, size)
    measured = in_turns(
        {
            "gemm_flops_per_s": lambda: gemm_flops_per_s(np.matmul),
            "prepare_s": lambda: seconds(lambda: fit_scaling(check(blocks), balance=False)),
            "gather_s": lambda: seconds(lambda: als.gather(table, scaling)),
            "sweep_s": lambda: seconds(sweep, size.sweeps, warm_up=1),
            "complete_s": lambda: seconds(lambda: completer.complete(blocks, state)),
        },
        size.repeats,
    )
    rate = measured["gemm_flops_per_s"]
    gather_flops, sweep_flops = _gather_flops(table), _sweep_flops(table, size.rank)
    return {
        **measured,
        "fit_s": measured["gather_s"] + size.sweeps * measured["sweep_s"],
        "floor_gather_s": gather_flops / rate,
        "floor_sweep_s": sweep_flops / rate,
        "floor_fit_s": (gather_flops + size.sweeps * sweep_flops) / rate,
        "floor_of_row_by_row_fit_s": size.sweeps * _direct_flops(table, size.rank) / rate,
    }


def _settings(size: Size, sweeps: int) -> CompletionSettings:
    return CompletionSettings(rank=size.rank, regularization=LAMBDA, sweeps=sweeps, tolerance=0.0)


def _sweeps(table: FeatureRows, size: Size) -> Callable[[], None]:
    """Return a function that runs one sweep per call, each continuing from the previous one."""
    seen = als.gather(table, fit_scaling(table, balance=False))
    factors = als.start(table, _settings(size, size.sweeps))

    def sweep() -> None:
        nonlocal factors
        factors, _ = als.sweep(seen, factors, LAMBDA)

    return sweep


def _shapes(table: FeatureRows) -> dict[Pattern, tuple[int, int]]:
    """Return the number of rows and columns observed, by pattern."""
    n_rows: Counter[Pattern] = Counter()
    for pattern, rows in walk(table):
        n_rows[pattern] += len(rows)
    return {pattern: (n, sum(table.dims[name] for name in pattern)) for pattern, n in n_rows.items() if pattern}


def _gather_flops(table: FeatureRows) -> float:
    """Return the operations of the symmetric Z^T Z of each pattern with more rows than columns."""
    return float(sum(n * d * (d + 1) for n, d in _shapes(table).values() if n >= d))


def _sweep_flops(table: FeatureRows, rank: int) -> float:
    """Return the operations of U^T Z and U^T U of each pattern."""
    return float(sum((2 if n >= d else 4 * n / d) * d**2 * rank + 2 * d * rank**2 for n, d in _shapes(table).values()))


def _direct_flops(table: FeatureRows, rank: int) -> float:
    """Return the operations of a sweep over all rows: Z F, U^T Z and U^T U."""
    return float(sum(4 * n * d * rank + 2 * n * rank**2 for n, d in _shapes(table).values()))


def measure_memory(size: Size) -> dict[str, float]:
    """Return the bytes of the matrix and of fitting and completing it."""
    blocks = synthetic(size.rows)
    completer = als.AlsCompleter(_settings(size, sweeps=2))
    extra = peak_bytes_above(lambda: completer.complete(blocks, completer.fit(blocks)))
    return {"peak_bytes": float(extra + sum(block.nbytes for block in blocks.values()))}


def measure_peer(size: Size) -> dict[str, float]:
    """Return the seconds of a sweep of our ALS and of implicit's on the same rows."""
    table = check(synthetic(size.peer_rows))
    scaling = fit_scaling(table, balance=False)
    gather_s = seconds(lambda: als.gather(table, scaling), size.repeats)
    ours = seconds(_sweeps(table, size), size.sweeps, warm_up=1) + gather_s / size.sweeps
    times = sweep_times_s(table, _settings(size, size.peer_sweeps))
    return {"peer_rows_sweep_s": ours, "implicit_sweep_s": float(np.median(times[1:]))}


def measure_error(size: Size) -> dict[str, float]:
    """Return the error of both on the same hidden blocks, with the default search over the regularisation."""
    settings = replace(_settings(size, size.held_out_sweeps), regularization=None)
    completers: dict[str, Completer] = {"als": als.AlsCompleter(settings), "implicit": ImplicitCompleter(settings)}
    found = held_out_nrmse(synthetic(size.held_out_rows), completers, seed=0)["nrmse"]
    return {f"{name}_nrmse": float(scores["overall"]) for name, scores in found.items()}


MEASURES = {"memory": measure_memory, "sweeps": measure_als, "implicit": measure_peer, "held-out error": measure_error}
"""Measures in the order of their figures, by what they measure."""
