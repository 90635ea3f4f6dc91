"""The bench of training, at a tiny size."""

import math

from nmcl.model.bench.synthetic import Size, devices
from nmcl.model.bench.train import Steps, bench_train


def test_figures() -> None:
    result = bench_train(Size(acoustic=5, textual=4, visual=20, n_classes=6, batch=16), Steps(8, 8))
    assert {"to_floor", "low_rank_to_floor", "full_memory_to_floor"} <= result.ratios.keys()
    assert all(math.isfinite(value) for value in [*result.figures.values(), *result.ratios.values()])
    assert sum("extrapolated" in note for note in result.notes) == 2 * len(devices())
