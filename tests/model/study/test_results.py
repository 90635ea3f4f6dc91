"""Summaries over seeds."""

import numpy as np
import pytest

from nmcl.model.study.results import spread


def test_spread_is_mean_and_sample_deviation() -> None:
    found = spread([0.2, 0.4, 0.9])
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(np.sqrt((0.3**2 + 0.1**2 + 0.4**2) / 2))
    assert spread([0.2]).std is None
