"""Measured time, memory and rate against what is known of the work."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil

from nmcl.pipeline.bench import measure
from nmcl.pipeline.bench.measure import in_turns
from nmcl.pipeline.bench.result import Result


def test_seconds_are_the_median_after_the_warm_up() -> None:
    waits = iter([0.2, 0.0, 0.0, 0.05])
    assert measure.seconds(lambda: time.sleep(next(waits)), repeats=3, warm_up=1) < 0.05


def test_measures_in_turns_are_medians_of_rounds() -> None:
    taken = []

    def of(name: str, values: list[float]) -> Callable[[], float]:
        remaining = iter(values)
        return lambda: taken.append(name) or next(remaining)

    measures = {"a": of("a", [1.0, 9.0, 2.0]), "b": of("b", [5.0, 3.0, 4.0])}
    assert in_turns(measures, rounds=3) == {"a": 2.0, "b": 4.0}
    assert taken == ["a", "b"] * 3


def test_two_rounds_at_least_and_no_more_once_time_is_up() -> None:
    values = iter(range(5))
    assert in_turns({"a": lambda: float(next(values))}, rounds=5, within_s=0.0) == {"a": 0.5}


def test_peak_memory_counts_what_is_freed_again() -> None:
    peak = measure.in_new_process(peak_of_64_mib)
    assert 60 * 2**20 < peak < 80 * 2**20


def peak_of_64_mib() -> int:
    return measure.peak_bytes_above(lambda: np.ones(2**26, np.uint8).sum())


def test_a_killed_bench_leaves_no_process_behind() -> None:
    script = (
        "from nmcl.pipeline.bench.measure import in_new_process; from tests.pipeline.bench.test_measure import linger\n"
    )
    script += "if __name__ == '__main__': in_new_process(linger)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout
        child = psutil.Process(int(bench.stdout.readline()))
        bench.kill()
        assert not psutil.wait_procs([child], timeout=10)[1]


def linger() -> None:
    print(os.getpid(), flush=True)
    time.sleep(60)


def test_rate_of_matrix_products() -> None:
    assert 1e9 < measure.gemm_flops_per_s(np.matmul) < 1e14


def test_a_result_as_json_shows_its_notes_with_the_figures() -> None:
    result = Result({"a_s": 1.0}, {"to_floor": 2.0}, ["synthetic"])
    figures = {"a_s": 1.0, "notes": ["synthetic"]}
    assert result.to_json() == {"figures": figures, "ratios": {"to_floor": 2.0}, "machine": result.machine}
    assert result.machine["cores"] >= 1
