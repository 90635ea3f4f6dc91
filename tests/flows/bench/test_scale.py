"""The bench of growing crawls, at a tiny size and with a real Prefect server."""

import math
from pathlib import Path

import pytest

from nmcl.extractors.visual import VisualSettings
from nmcl.flows.bench.scale import Size, bench_scale
from nmcl.flows.feature_settings import FeatureChoice
from tests.media import shades, tone, write_video


@pytest.mark.services
@pytest.mark.filterwarnings("ignore")  # the server's own
def test_figures(tmp_path: Path) -> None:
    for i in range(2):
        write_video(tmp_path / f"clip{i}.mp4", shades([20, 90 * i + 80], 4), sound=tone(300 + i, 0.5))
        (tmp_path / f"clip{i}.info.json").write_text(f'{{"id": "clip{i}", "description": "beach number {i}"}}')
    visual = FeatureChoice("efficientnet_lite0", VisualSettings(key_frames=1))
    result = bench_scale(tmp_path, Size(videos=(33, 34), finished=10, rows=20, visual=visual))
    assert {"cost_most_over_least", "memory_most_over_least", "orchestration_share"} == result.ratios.keys()
    assert all(math.isfinite(value) and value >= 0 for value in [*result.figures.values(), *result.ratios.values()])
    assert 0 < result.ratios["orchestration_share"] < 1
    assert any(note.startswith("reduced") for note in result.notes)
