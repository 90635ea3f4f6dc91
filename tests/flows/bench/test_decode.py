"""The bench of one decode for many feature sets, on a few real files."""

import math
from pathlib import Path

from nmcl.flows.bench.decode import Size, bench_decode
from tests.media import shades, tone, write_video


def test_figures(tmp_path: Path) -> None:
    for i in range(2):
        write_video(tmp_path / f"clip{i}.mp4", shades([20, 60 * i + 80, 10], 5), sound=tone(300, 1.0))
    result = bench_decode(tmp_path, Size(videos=2, repeats=1))
    assert {"two_to_one", "many_to_one", "vs_separate"} == result.ratios.keys()
    assert all(math.isfinite(value) and value > 0 for value in [*result.figures.values(), *result.ratios.values()])
