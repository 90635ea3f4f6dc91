"""Majority: shares counted by hand."""

import numpy as np
import pytest
import torch

from nmcl.model.base import Shape
from nmcl.model.baselines.majority import Majority, MajoritySettings
from nmcl.model.data import Dataset
from nmcl.pipeline.progress import silent

SHAPE = Shape({"x": 2}, tuple("abcd"))


@pytest.mark.parametrize(
    ("label", "shares"),
    [([2, 0, 2, 1], [0.25, 0.25, 0.5, 0.0]), ([3, 3, 3], [0.0, 0.0, 0.0, 1.0]), ([0, 1, 2, 3], [0.25] * 4)],
)
def test_every_row_gets_the_shares_of_the_training_rows(label: list[int], shares: list[float]) -> None:
    rows = Dataset({"x": np.random.default_rng(0).normal(size=(len(label), 2))}, {}, np.array(label))
    other = Dataset({"x": np.zeros((5, 2))}, {}, np.zeros(5, int))
    model = Majority(SHAPE, MajoritySettings())
    assert model.fit(rows, other, 0, silent) == ()
    found = model({"x": torch.randn(7, 2)}, {"x": torch.ones(7, dtype=torch.bool)}).log_probability
    assert found.shape == (7, 4)
    torch.testing.assert_close(found.exp(), torch.tensor([shares] * 7))
    assert bool(torch.isfinite(found).all())
    again = Majority(SHAPE, MajoritySettings())
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again({"x": torch.zeros(1, 2)}, {}).log_probability[0], found[0], rtol=0, atol=0)
