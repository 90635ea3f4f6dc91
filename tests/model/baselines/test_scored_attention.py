"""Attention that depends on row and category: chunks against all at once, and against a loop over rows and
categories."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from nmcl.model import layers
from nmcl.model.baselines.scored_attention import ScoredAttention


def disturbed(widths: list[int], n_classes: int = 5, dropout: float = 0.0) -> ScoredAttention:
    """For 4 features, with no number left at its start."""
    torch.manual_seed(0)
    model = ScoredAttention(4, widths, n_classes, dropout)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    return model


def naive(model: ScoredAttention, x: Tensor, keep: list[Tensor]) -> Tensor:
    """All categories at once, with the tensor that the module avoids."""
    score = (x @ model.row_score.weight.T + model.row_score.bias)[:, None, :] + model.category_score
    theta = x[:, None, :] / (1 + torch.exp(-score))
    for layer, kept in zip(model.hidden, keep, strict=True):
        theta = (theta @ layer.weight.T + layer.bias).clamp_min(0) * kept[:, None, :]
    return (theta * model.class_vectors.weight).sum(dim=2) + model.class_vectors.bias


@pytest.mark.parametrize("widths", [[3], [3, 6]])
def test_logits_are_those_of_the_equations(widths: list[int]) -> None:
    model = disturbed(widths)
    x = torch.randn(7, 4)
    value = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    found = model(x).detach().numpy()
    for n, row in enumerate(x.double().numpy()):
        for k in range(5):
            one_hot = np.eye(5)[k]
            score = value["row_score.weight"] @ row + value["row_score.bias"] + value["category_score"].T @ one_hot
            theta = row / (1 + np.exp(-score))
            for i in range(len(widths)):
                theta = np.maximum(value[f"hidden.{i}.weight"] @ theta + value[f"hidden.{i}.bias"], 0)
            expected = value["class_vectors.weight"][k] @ theta + value["class_vectors.bias"][k]
            assert float(found[n, k]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_chunks_change_neither_logits_nor_gradients(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = disturbed([3, 6], n_classes=7)
    x = torch.randn(8, 4, requires_grad=True)
    upstream = torch.randn(8, 7)
    wanted = [x, *model.parameters()]
    monkeypatch.setitem(layers.CHUNK_ELEMENTS, "cpu", at_once * 8 * 4)
    assert layers.categories_per_chunk(8, 4, 7) == at_once
    ones = [torch.ones(8, width) for width in (3, 6)]
    gradients = [torch.autograd.grad((logits * upstream).sum(), wanted) for logits in (model(x), naive(model, x, ones))]
    torch.testing.assert_close(model(x), naive(model, x, ones), atol=1e-5, rtol=0)
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_one_dropout_mask_serves_all_categories_forward_and_backward() -> None:
    model = disturbed([30, 20], dropout=0.5)
    x = torch.randn(6, 4, requires_grad=True)
    torch.manual_seed(1)
    found = model(x)
    torch.manual_seed(1)
    keep = [torch.nn.functional.dropout(torch.ones(6, width), 0.5) for width in (30, 20)]
    expected = naive(model, x, keep)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    wanted = [x, *model.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def largest_kept(compute: Callable[[], Tensor]) -> int:
    """Elements of the largest tensor that is kept for the backward pass."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        compute()
    return max(sizes)


def test_the_tensor_of_all_attended_features_is_never_kept() -> None:
    model = disturbed([3], n_classes=50)
    x = torch.randn(40, 4)
    assert largest_kept(lambda: naive(model, x, [torch.ones(40, 3)])) >= 40 * 50 * 4
    assert largest_kept(lambda: model(x)) <= 40 * 50  # no larger than the logits


def test_attention_depends_on_row_and_category() -> None:
    """A category that attends to one feature only; a row whose score shuts it."""
    model = disturbed([3], n_classes=2)
    with torch.no_grad():
        model.row_score.weight.zero_()
        model.row_score.weight[0, 3] = 100.0  # the last feature opens the first
        model.row_score.bias.zero_()
        model.category_score.copy_(torch.tensor([[-50.0, 50.0, -50.0, -50.0], [-50.0, -50.0, 50.0, -50.0]]))
    base = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    moved = base + torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    changed = (model(moved) - model(base)).detach().abs()[0]
    assert float(changed[0]) > 1e-3
    assert float(changed[1]) < 1e-6
    first = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(model(base + first), model(base))
    open_row = base + torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    assert not torch.allclose(model(open_row + first), model(open_row), atol=1e-3)
