"""Layers: batch normalisation against torch's own, and the batch of one row that it refuses."""

import math

import pytest
import torch
from torch import nn

from nmcl.model.layers import BatchNorm, perceptron, xavier_linear


def test_the_start_is_xavier_s() -> None:
    torch.manual_seed(0)
    layer = xavier_linear(200, 100)
    bound = math.sqrt(6 / 300)
    assert 0.98 * bound < float(layer.weight.detach().abs().max()) <= bound
    assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not layer.bias.any()


@pytest.mark.parametrize("widths", [[], [4], [4, 3, 2]])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_layers_are_those_asked_for(widths: list[int], batch_norm: bool) -> None:
    layers = perceptron(5, widths, 7, 0.25, batch_norm)
    shapes = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, nn.Linear)]
    assert shapes == [(n_out, n_in) for n_in, n_out in zip([5, *widths], [*widths, 7], strict=True)]
    one = [nn.Linear, BatchNorm, nn.ReLU, nn.Dropout] if batch_norm else [nn.Linear, nn.ReLU, nn.Dropout]
    assert [type(layer) for layer in layers] == [*(one * len(widths)), nn.Linear]
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} <= {0.25}


def test_batch_norm_is_torch_s() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4), nn.BatchNorm1d(4)
    for layer in (ours, theirs):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
            layer.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))
    for n_rows in (2, 9, 30):
        x = 3 + 2 * torch.randn(n_rows, 4)
        torch.testing.assert_close(ours(x), theirs(x))
    for layer in (ours, theirs):
        layer.eval()
    x = torch.randn(5, 4)
    torch.testing.assert_close(ours(x), theirs(x))
    assert theirs.running_var is not None
    torch.testing.assert_close(ours.variance, theirs.running_var)
    assert {value.dtype for value in ours.state_dict().values()} == {torch.float32}


def test_a_single_row_is_normalised_by_the_running_moments_and_leaves_them() -> None:
    torch.manual_seed(0)
    layer = BatchNorm(3)
    layer(torch.randn(20, 3) * 4 + 1)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(1, 3)
    expected = (x - before["mean"]) / (before["variance"] + 1e-5).sqrt()
    torch.testing.assert_close(layer(x), expected)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not torch.allclose(before["mean"], torch.zeros(3))
