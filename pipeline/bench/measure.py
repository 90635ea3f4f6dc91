"""Measurement of time, memory and the rate of matrix products."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from nmcl.pipeline.processes import die_with_parent

P = ParamSpec("P")
T = TypeVar("T")

GEMM_SIDE = 2048
"""Rows and columns of the product: large enough for a CPU's peak rate, 0.1 s on one core."""
GEMM_REPEATS = 9


def seconds(work: Callable[[], object], repeats: int = 1, warm_up: int = 0) -> float:
    """Return the median wall-clock time of one call, after `warm_up` calls that are not counted."""
    for _ in range(warm_up):
        work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def in_turns(measures: Mapping[str, Callable[[], float]], rounds: int, within_s: float = math.inf) -> dict[str, float]:
    """Return the median of each measure over rounds that run every measure once.

    The speed of a shared machine drifts from minute to minute; interleaving slows all measures alike and keeps ratios.

    Args:
        rounds: Number of rounds.
        within_s: No round after the second begins later than this, in seconds from the start.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    start = time.perf_counter()
    for done in range(rounds):
        if done >= 2 and time.perf_counter() - start > within_s:
            break
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def gemm_flops_per_s(
    multiply: Callable[[Any, Any], object], convert: Callable[[np.ndarray], Any] = lambda a: a, side: int = GEMM_SIDE
) -> float:
    """Return the operations per second of a large matrix product over all cores; a product of n^3 terms counts 2 n^3.

    Args:
        multiply: The library's product of two matrices.
        convert: Converts a NumPy array of float32 to what `multiply` takes.
        side: Rows and columns of both matrices.
    """
    rng = np.random.default_rng(0)
    a, b = (convert(rng.standard_normal((side, side), dtype=np.float32)) for _ in range(2))
    return 2 * side**3 / seconds(lambda: multiply(a, b), GEMM_REPEATS, warm_up=2)


def peak_bytes_above(work: Callable[[], object]) -> int:
    """Return how far the resident memory rises above its present level while `work` runs. Linux only.

    Memory freed earlier and kept by the allocator hides allocations: measure in a process of its own, see
    `in_new_process`.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak: proc(5)
    before = _status_bytes("VmRSS")
    work()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def in_new_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a module-level function in a fresh process, without the memory or caches of this one."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=die_with_parent) as pool:
        return pool.submit(work, *args, **kwargs).result()
