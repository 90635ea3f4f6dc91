"""The head against its naive form, its gradients against finite differences, its memory against the tensor it
avoids."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nmcl.model import layers
from nmcl.model.layers import categories_per_chunk
from nmcl.model.nmcl import attention
from nmcl.model.nmcl.attention import (
    AttentionHead,
    CategoryAttention,
    FoldedNorm,
    LowRankAttention,
    low_rank_logits,
    low_rank_products,
)
from nmcl.model.train import MatmulPrecision, multiplying
from tests.model import reference


def parts(n: int, k: int, d: int, h: int, seed: int = 0) -> list[torch.Tensor]:
    """x, memory, weight, bias, vectors, float64."""
    random = torch.Generator().manual_seed(seed)
    shapes = [(n, d), (k, d), (h, d), (h,), (k, h)]
    return [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]


@given(n=st.integers(1, 5), k=st.integers(1, 6), d=st.integers(1, 7), h=st.integers(1, 5), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_logits_are_those_of_the_equations(n: int, k: int, d: int, h: int, seed: int) -> None:
    x, memory, weight, bias, vectors = parts(n, k, d, h, seed)
    found = CategoryAttention.apply(x, memory, weight, bias, vectors, torch.ones(n, h, dtype=torch.float64))
    arrays = [tensor.numpy() for tensor in (x, memory, weight, bias, vectors)]
    expected = reference.head_logits(*arrays, offsets=np.zeros(k))
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("panel", [1, 3, 1024])
@pytest.mark.parametrize("chunk", [1, 40, 1 << 22])
def test_gradients_agree_with_finite_differences(chunk: int, panel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layers.CHUNK_ELEMENTS, "cpu", chunk)
    monkeypatch.setattr(attention, "PANEL_COLUMNS", panel)
    inputs = [tensor.requires_grad_() for tensor in parts(3, 5, 4, 6)]
    keep = (torch.rand(3, 6, generator=torch.Generator().manual_seed(1)) > 0.3).double() / 0.7
    assert torch.autograd.gradcheck(CategoryAttention.apply, (*inputs, keep), atol=1e-7)


def test_float32_agrees_with_the_naive_tensor_and_its_gradients() -> None:
    exact = [tensor.float() for tensor in parts(16, 9, 40, 12)]
    ours, naive = ([tensor.clone().requires_grad_() for tensor in exact] for _ in range(2))
    keep = torch.ones(16, 12)
    upstream = torch.randn(16, 9, generator=torch.Generator().manual_seed(2))
    logits = CategoryAttention.apply(*ours, keep)
    x, memory, weight, bias, vectors = naive
    psi = torch.einsum("nd,kd->nkd", x, memory)
    expected = (torch.relu(psi @ weight.T + bias) * vectors).sum(dim=2)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-4)
    logits.backward(upstream)
    expected.backward(upstream)
    for mine, other in zip(ours, naive, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-3)


def test_without_relu_the_head_is_linear() -> None:
    """Where every hidden unit is far above zero ReLU does nothing, and the head is X V^T, V_j = omega_j * W^T
    z_j."""
    x, memory, weight, bias, vectors = parts(6, 5, 4, 7)
    lifted = bias + 1e4
    found = CategoryAttention.apply(x, memory, weight, lifted, vectors, torch.ones(6, 7, dtype=torch.float64))
    linear = x @ (memory * (vectors @ weight)).T + vectors @ lifted
    torch.testing.assert_close(found, linear, rtol=1e-12, atol=1e-7)


def test_low_rank_is_exact_for_its_memory() -> None:
    x, _, weight, bias, vectors = parts(6, 5, 4, 7)
    left, right = torch.randn(5, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    keep = torch.rand(6, 7, dtype=torch.float64)
    full = CategoryAttention.apply(x, 1 + left @ right, weight, bias, vectors, keep)
    products = low_rank_products(x, right, weight)
    products[:, 0] += bias
    torch.testing.assert_close(low_rank_logits(products, left, vectors, keep), full)


def test_a_normalised_head_is_the_same_with_a_full_memory_of_that_rank() -> None:
    torch.manual_seed(0)
    low, full = (AttentionHead(5, 4, 3, rank=rank, normalise=True).double() for rank in (2, None))
    with torch.no_grad():
        low.memory_left.normal_()
        low.norm.gain.uniform_(0.5, 2)
        low.norm.offset.normal_()
        full.load_state_dict(low.state_dict(), strict=False)
        full.memory_offset.copy_(low.memory() - 1)
    vectors, x, upstream = nn.Linear(4, 3).double(), torch.randn(6, 5).double(), torch.randn(6, 3).double()
    found = [head.logits(x, vectors) for head in (low, full)]
    torch.testing.assert_close(*found)
    weights = [
        torch.autograd.grad((logits * upstream).sum(), head.hidden.weight)
        for head, logits in zip((low, full), found, strict=True)
    ]
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize("cached", [1, 60, 1 << 18])
def test_low_rank_gradients_agree_with_finite_differences(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "CACHED_ELEMENTS", cached)
    random = torch.Generator().manual_seed(0)
    shapes = [(7, 3, 6), (5, 3), (5, 6)]
    inputs = [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(LowRankAttention.apply, inputs, atol=1e-7)


def test_memory_starts_at_ones_whatever_its_rank() -> None:
    for rank in (None, 3):
        head = AttentionHead(n_features=5, n_hidden=4, n_classes=6, rank=rank)
        torch.testing.assert_close(head.memory().detach(), torch.ones(6, 5))


def test_dropout_is_one_mask_for_all_categories_and_off_in_evaluation() -> None:
    torch.manual_seed(0)
    head, vectors = AttentionHead(5, 64, 3, dropout=0.5), torch.nn.Linear(64, 3)
    x = torch.randn(4, 5)
    with torch.no_grad():
        vectors.weight.copy_(vectors.weight[:1].expand(3, 64))
        vectors.bias.zero_()
        dropped = head.logits(x, vectors)
        torch.testing.assert_close(dropped[:, :1].expand(4, 3), dropped)
        head.eval()
        torch.testing.assert_close(head.logits(x, vectors), head.logits(x, vectors), rtol=0, atol=0)
        assert not torch.allclose(dropped, head.logits(x, vectors))


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any result of any operation has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_pass_ever_holds_all_scored_features() -> None:
    n, k, d, h = 64, 40, 300, 8
    inputs = [tensor.float().requires_grad_() for tensor in parts(n, k, d, h)]
    with LargestTensor() as naive:
        x, memory = inputs[:2]
        assert (x[:, None, :] * memory).sum() is not None
    assert naive.elements == n * k * d
    with LargestTensor() as ours:
        CategoryAttention.apply(*inputs, torch.ones(n, h)).sum().backward()
    assert ours.elements <= n * k * d // 2


def test_chunks_respect_the_budget() -> None:
    n, d, k = 256, 2604, 188
    assert categories_per_chunk(n, d, k) * n * d <= layers.CHUNK_ELEMENTS["cpu"]
    assert categories_per_chunk(10**9, d, k) == 1
    assert categories_per_chunk(1, 1, 1) == 1


def test_the_folded_norm_is_torchs_batch_norm() -> None:
    torch.manual_seed(0)
    folded, own = FoldedNorm(3), torch.nn.BatchNorm1d(3)
    plain = 2 + 3 * torch.randn(40, 3)
    scale, shift = folded(plain)
    torch.testing.assert_close(plain * scale + shift, own(plain), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(folded.mean, own.running_mean)
    folded.eval()
    scale, shift = folded(plain)
    expected = (plain - folded.mean) / (folded.variance + 1e-5).sqrt()
    torch.testing.assert_close(plain * scale + shift, expected, atol=1e-5, rtol=1e-4)
    folded.train()
    before = folded.mean.clone()
    scale, shift = folded(plain[:1])  # a single row has no variance
    assert bool(torch.isfinite(plain[:1] * scale + shift).all())
    torch.testing.assert_close(folded.mean, before)


@pytest.mark.parametrize("training", [True, False])
def test_a_normalised_head_is_the_same_with_its_memory_whole_or_in_two(training: bool) -> None:
    torch.manual_seed(0)
    whole, low = (AttentionHead(5, 4, 6, rank=rank, normalise=True).train(training) for rank in (None, 2))
    vectors, x = torch.nn.Linear(4, 6), torch.randn(9, 5)
    with torch.no_grad():
        low.memory_left.normal_()
        whole.memory_offset.copy_(low.memory() - 1)
        whole.hidden.load_state_dict(low.hidden.state_dict())
        torch.testing.assert_close(whole.logits(x, vectors), low.logits(x, vectors))


def on(device: str) -> Any:
    """A parameter that is left out where there is no such device."""
    there = torch.cuda.is_available() if device == "cuda" else attention._cpu_has_bfloat16()
    missing = {"cuda": "needs a CUDA device", "cpu": "needs a processor with bfloat16"}[device]
    return pytest.param(device, marks=pytest.mark.skipif(not there, reason=missing))


@pytest.mark.parametrize("device", [on("cuda")])
def test_a_gpu_finds_what_the_cpu_finds(device: str) -> None:
    assert_near_float32(device, "highest", 1e-5)


@pytest.mark.parametrize("device", [on("cpu"), on("cuda")])
def test_bfloat16_is_near_float32(device: str) -> None:
    """bfloat16 moves one hidden unit in a hundred across zero, which changes its gradient by all it is."""
    assert assert_near_float32(device, "medium", 0.25) > 1e-4


def assert_near_float32(device: str, precision: MatmulPrecision, bound: float) -> float:
    """The largest norm of an error, relative to that of what the CPU finds in float32, which is within the bound."""
    expected = [tensor.float().requires_grad_() for tensor in parts(32, 20, 300, 24)]
    found = [tensor.detach().to(device).requires_grad_() for tensor in expected]
    upstream = torch.randn(32, 20, generator=torch.Generator().manual_seed(2))
    logits = CategoryAttention.apply(*expected, torch.ones(32, 24))
    logits.backward(upstream)
    with multiplying(precision):
        found_logits = CategoryAttention.apply(*found, torch.ones(32, 24, device=device))
        found_logits.backward(upstream.to(device))
    pairs = [(found_logits, logits), *((mine.grad, other.grad) for mine, other in zip(found, expected, strict=True))]
    errors = [float((mine.cpu() - other).detach().norm() / other.detach().norm()) for mine, other in pairs]
    assert max(errors) <= bound, errors
    return max(errors)
