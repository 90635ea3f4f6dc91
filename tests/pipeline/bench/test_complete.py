"""The bench of completion, at a tiny size, and its count of operations against a count by hand."""

import math

import numpy as np

from nmcl.pipeline.bench import complete
from nmcl.pipeline.completion.table import check

TINY = complete.Size(rows=300, rank=5, sweeps=1, peer_rows=200, held_out_rows=150, held_out_sweeps=2)


def test_figures() -> None:
    result = complete.bench_complete(TINY)
    assert {
        "to_floor",
        "vs_row_by_row_floor",
        "peak_over_matrix",
        "vs_implicit_sweep_time",
        "vs_implicit_error",
    } == result.ratios.keys()
    assert all(math.isfinite(value) and value >= 0 for value in [*result.figures.values(), *result.ratios.values()])
    assert any(note.startswith("reduced") for note in result.notes)


def test_operations_are_those_of_the_observed_entries() -> None:
    blocks = {"a": np.zeros((9, 3), np.float32), "b": np.full((9, 2), np.nan, np.float32)}
    blocks["b"][0] = 0  # one row of 5 columns, eight of 3
    table = check(blocks)
    assert complete._gather_flops(table) == 8 * 3 * 4
    assert complete._direct_flops(table, rank=2) == 4 * (8 * 3 + 1 * 5) * 2 + 2 * 9 * 4
    assert complete._sweep_flops(table, rank=2) == (2 * 9 * 2 + 2 * 3 * 4) + (4 * 5 * 2 + 2 * 5 * 4)


def test_blocks_are_missing_as_often_as_in_the_paper() -> None:
    missing = {name: np.isnan(block).all(axis=1).mean() for name, block in complete.synthetic(5000).items()}
    assert missing["visual"] == 0
    assert missing["acoustic"] < 0.003
    assert 0.07 < missing["textual"] < 0.11
