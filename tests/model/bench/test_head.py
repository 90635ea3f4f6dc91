"""The bench of one step: its direct formulation is the same function, and its figures are sound."""

import math

import torch

from nmcl.model.bench.head import bench_head, computed, network_of
from nmcl.model.bench.synthetic import Size, step_of

TINY = Size(acoustic=5, textual=4, visual=20, n_classes=6, batch=16)


def test_both_ways_have_the_same_loss_and_gradients() -> None:
    found = []
    for way in ("ours", "direct"):
        network = network_of(way, TINY)  # type: ignore[arg-type]
        step = step_of(network, TINY.rows(TINY.batch))
        torch.manual_seed(1)  # of dropout
        with computed(way):  # type: ignore[arg-type]
            found.append((step(), [p.grad for p in network.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_figures() -> None:
    result = bench_head(TINY, repeats=1)
    assert {"vs_naive_memory", "vs_naive_time", "to_floor"} <= result.ratios.keys()
    assert all(math.isfinite(value) and value >= 0 for value in [*result.figures.values(), *result.ratios.values()])
