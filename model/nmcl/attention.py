"""Category-wise attention memory (eq. 15 to 17), computed exactly without materialising all attended features.

Category j scales a row x by its own attention vector omega_j; all categories share one hidden layer:

    psi_j = omega_j * x,   theta_j = ReLU(W psi_j + b),   logit_j = z_j . theta_j + c_j

The tensor of all psi has the shape (N, K, D): 500 MB for 256 rows at the paper's size. Because W psi_j = (W omega_j) x,
the weights are scaled instead, for a few categories at a time. Each category then takes three large matrix products for
forward and backward, and any other array with a dimension D has the size of weights, not of rows. Only theta is saved
for the backward pass.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmcl.model.layers import categories_per_chunk, xavier_linear

CACHED_ELEMENTS = 1 << 18
"""Floats (1 MiB) of hidden layers processed at once, but at least one row, so that they stay in a core's cache."""
PANEL_COLUMNS = 1024
"""Features per panel of the backward pass on a CPU: intermediate results stay in cache, and some libraries multiply
narrow matrices up to a third faster."""


class CategoryAttention(torch.autograd.Function):
    """Autograd function for the logits of eq. 15 to 17, before the softmax and without c.

    Shapes: x (N, D), memory (K, D), weight (H, D), bias (H,), vectors (K, H), keep (N, H); result (N, K).
    `keep` multiplies theta. It is a dropout mask shared by all categories, as the hidden layer is, and gets no
    gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, memory: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor, keep: Tensor
    ) -> Tensor:
        dtype = _factor_dtype(x)
        factor, offset = x.to(dtype), bias.to(dtype)
        hidden = x.new_empty(len(memory), len(x), len(weight), dtype=dtype)
        logits = x.new_empty(len(memory), len(x))
        chunks = _chunks(weight, memory)
        room = _Buffers(memory[chunks[0]], weight, dtype)
        for part in chunks:
            attending = room.scaled(memory[part], weight)
            torch.baddbmm(offset, factor.expand(len(attending), -1, -1), attending.mT, out=hidden[part])
            logits[part] = torch.bmm(hidden[part].relu_() * keep, vectors[part, :, None]).squeeze(2)
        ctx.save_for_backward(x, memory, weight, vectors, keep, hidden)
        return logits.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = gradients
        x, memory, weight, vectors, keep, hidden = ctx.saved_tensors
        to_x, to_weight, to_bias = torch.zeros_like(x), torch.zeros_like(weight), weight.new_zeros(len(weight))
        to_memory, to_vectors = torch.empty_like(memory), torch.empty_like(vectors)
        factor = x.to(hidden.dtype)
        panels = _panels(x)
        chunks = _chunks(weight[:, panels[0]], memory)
        room = _Buffers(memory[chunks[0], panels[0]], weight[:, panels[0]], hidden.dtype)
        for part in chunks:
            active = hidden[part].to(x.dtype)
            upstream = grad.T[part, :, None] * keep
            to_active = torch.ops.aten.threshold_backward(upstream * vectors[part, None, :], active, 0)
            torch.sum(upstream.mul_(active), dim=1, out=to_vectors[part])
            to_bias += to_active.sum(dim=(0, 1))
            to_active = to_active.to(hidden.dtype)
            side_by_side = to_active.transpose(0, 1).flatten(1)
            for columns in panels:
                attention, of_all = memory[part, columns], weight[:, columns]
                attending = room.scaled(attention, of_all)
                _add_product(to_x[:, columns], side_by_side, attending.flatten(0, 1))
                narrow = torch.bmm(to_active.mT, factor[:, columns].expand(len(to_active), -1, -1), out=attending)
                to_attending = room.widened(narrow)
                _add_weighted(to_weight[:, columns], to_attending, attention)
                torch.sum(to_attending.mul_(of_all), dim=1, out=to_memory[part, columns])
        return to_x, to_memory, to_weight, to_bias, to_vectors, None


def _factor_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of the factors of the large products: bfloat16 if requested and supported by the hardware.

    bfloat16 also halves the memory traffic.
    """
    asked_for = x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium"
    return torch.bfloat16 if asked_for and (x.is_cuda or _cpu_has_bfloat16()) else x.dtype


@cache
def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class _Buffers:
    """Reused buffers for the scaled weights of a few categories, in the weights' dtype and in the factors' dtype.

    A GPU converts between the two at no extra cost; a CPU would allocate and free a copy each time.
    """

    def __init__(self, attention: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
        """Allocate for the largest attention (k, D) and weight (H, D); `dtype` is that of the factors."""
        size = len(attention) * weight.numel()
        self._narrow = weight.new_empty(size, dtype=dtype)
        self._wide = self._narrow if weight.is_cuda or dtype == weight.dtype else weight.new_empty(size)

    def scaled(self, attention: Tensor, weight: Tensor) -> Tensor:
        """Return the weights scaled by each category's attention, shape (k, H, D), in the factors' dtype."""
        shape = (len(attention), *weight.shape)
        wide = torch.mul(attention[:, None, :], weight, out=self._wide[: math.prod(shape)].view(shape))
        return wide if self._wide is self._narrow else self._narrow[: wide.numel()].view(shape).copy_(wide)

    def widened(self, narrow: Tensor) -> Tensor:
        """Convert to the weights' dtype; this overwrites the buffer that `scaled` uses."""
        return narrow if self._wide is self._narrow else self._wide[: narrow.numel()].view(narrow.shape).copy_(narrow)


def _add_weighted(total: Tensor, of_category: Tensor, attention: Tensor) -> None:
    """Compute total (H, D) += sum_j of_category_j (H, D) attention_j (D,): at once on a GPU, within cache on a CPU."""
    if total.is_cuda:
        total += (of_category * attention[:, None, :]).sum(dim=0)
        return
    for one, weights in zip(of_category, attention, strict=True):
        total.addcmul_(one, weights)


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Compute total += a @ b; the factors may have a narrower dtype."""
    if a.dtype == total.dtype:
        torch.addmm(total, a, b, out=total)
    else:
        total += a @ b


def _panels(x: Tensor) -> list[slice]:
    """Return the column panels of the backward pass: all at once on a GPU, even panels <= `PANEL_COLUMNS` on a CPU."""
    n = x.shape[1]
    width = -(-n // -(-n // PANEL_COLUMNS)) if x.device.type == "cpu" else n
    return [slice(start, min(start + width, n)) for start in range(0, n, width)]


def _chunks(weight: Tensor, memory: Tensor) -> list[slice]:
    step = categories_per_chunk(len(weight), weight.shape[1], len(memory), weight.device.type)
    return [slice(start, min(start + step, len(memory))) for start in range(0, len(memory), step)]


class LowRankAttention(torch.autograd.Function):
    """Autograd function for the logits of eq. 16 and 17 whose hidden layers are mixtures of R shared ones.

        theta_j = ReLU(sum_r mix_jr seen_r),   logit_j = z_j . theta_j

    The logits are before the softmax and without c. Shapes: seen (N, R, H), mix (K, R), vectors (K, H); result (N, K).

    The hidden layers of all categories, (N, K, H), take 50 MB for 256 rows at the paper's size. They are computed for a
    few rows at a time, to stay in a core's cache, and recomputed in the backward pass, which is cheaper than reading
    them from memory.
    """

    @staticmethod
    def forward(ctx: Any, seen: Tensor, mix: Tensor, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(seen, mix, vectors)
        logits = seen.new_empty(len(seen), len(mix))
        for rows in _rows_in_cache(seen, mix):
            hidden = _mixed(mix, seen[rows]).relu_()
            torch.sum(hidden.mul_(vectors), dim=2, out=logits[rows])
        return logits

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (grad,) = gradients
        seen, mix, vectors = ctx.saved_tensors
        to_seen, to_mix, to_vectors = torch.empty_like(seen), torch.zeros_like(mix), torch.zeros_like(vectors)
        for rows in _rows_in_cache(seen, mix):
            hidden = _mixed(mix, seen[rows]).relu_()
            upstream = grad[rows, :, None]
            to_active = torch.ops.aten.threshold_backward(upstream * vectors, hidden, 0)
            to_vectors += hidden.mul_(upstream).sum(dim=0)
            to_seen[rows] = _mixed(mix.T, to_active)
            to_mix += torch.bmm(to_active, seen[rows].mT).sum(dim=0)
        return to_seen, to_mix, to_vectors


def _mixed(mix: Tensor, seen: Tensor) -> Tensor:
    """Return mix @ seen[n] for each row n; `torch.matmul` would use a single product and copy its result to reorder."""
    return torch.bmm(mix.expand(len(seen), -1, -1), seen)


def _rows_in_cache(seen: Tensor, mix: Tensor) -> list[slice]:
    """Return the row chunks that fit in cache; all rows on a GPU, which has the bandwidth and stalls on small steps."""
    of_row = len(mix) * seen.shape[2]
    step = max(1, CACHED_ELEMENTS // of_row) if seen.device.type == "cpu" else len(seen)
    return [slice(start, start + step) for start in range(0, len(seen), step)]


def low_rank_products(x: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """Return W x and W (right_r * x) for each r, shape (N, r + 1, H), in one pass over the weights.

    They are all that the logits of `CategoryAttention` need for a memory 1 + left @ right of rank r, left (K, r), right
    (r, D): W psi_j = W x + sum_r left_jr W (right_r * x). This takes N H r (D + K) multiplications instead of N H K D.
    """
    rows = x[:, None, :]
    return functional.linear(torch.cat([rows, rows * right], dim=1), weight)


def low_rank_logits(products: Tensor, left: Tensor, vectors: Tensor, keep: Tensor) -> Tensor:
    """Return the logits of `CategoryAttention` from `low_rank_products`; the first one has the bias."""
    mix = torch.cat([left.new_ones(len(left), 1), left], dim=1)
    seen = products * keep[:, None, :]  # keep >= 0, so it commutes with the ReLU, and there are fewer values here
    logits: Tensor = LowRankAttention.apply(seen, mix, vectors)
    return logits


class FoldedNorm(nn.Module):
    """Batch normalisation of a linear layer, as a scale and a shift that can be folded into the layer's weights.

    Each category scales the layer's input differently; all use the moments of a category that attends to all features.
    Ioffe and Szegedy, ICML 2015. A single row is normalised by the running moments.
    """

    mean: Tensor
    variance: Tensor
    MOMENTUM, EPSILON = 0.1, 1e-5

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.offset = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, plain: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale and shift, shape (H,) each, that normalise the layer's output, shape (N, H)."""
        mean, variance = self.mean, self.variance
        if self.training and len(plain) > 1:
            variance, mean = torch.var_mean(plain, dim=0, correction=0)
            with torch.no_grad():
                self.mean.lerp_(mean, self.MOMENTUM)
                self.variance.lerp_(variance, self.MOMENTUM)
        scale = self.gain * (variance + self.EPSILON).rsqrt()
        return scale, self.offset - mean * scale


class AttentionHead(nn.Module):
    """Attention head of one modality (eq. 15 to 17): maps an augmented vector to K log-probabilities.

    The memory Omega is initialised to ones, so the head starts as one hidden layer shared by all categories; the paper
    says only that it is initialised. It is stored as its difference from one, so weight decay pulls it back to
    "attend to all".

    Interpretations: the paper declares Omega as D_m x K although x^ is longer than x^m; here it is K x (D + H).
    z_k has no modality index in eq. 17 while W^m has one, so the class vectors are passed in, not owned.
    """

    def __init__(
        self,
        n_features: int,
        n_hidden: int,
        n_classes: int,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        rank: int | None = None,
        normalise: bool = False,
    ) -> None:
        """Create the head.

        Args:
            rank: None for a full memory of K D parameters, r for one of r (K + D).
            normalise: whether to batch-normalise the hidden layer, with the moments of a category that attends to all.
        """
        super().__init__()
        self.hidden = xavier_linear(n_features, n_hidden)
        self.input_dropout = nn.Dropout(input_dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm = FoldedNorm(n_hidden) if normalise else None
        self.rank = rank
        if rank is None:
            self.memory_offset = nn.Parameter(torch.zeros(n_classes, n_features))
        else:
            self.memory_left = nn.Parameter(torch.zeros(n_classes, rank))
            self.memory_right = nn.Parameter(torch.empty(rank, n_features))
            if not self.memory_right.is_meta:  # torch would load its compiler for that, which takes seconds
                nn.init.normal_(self.memory_right)

    def memory(self) -> Tensor:
        """Return Omega, shape (K, D + H)."""
        if self.rank is None:
            return 1.0 + self.memory_offset
        return 1.0 + self.memory_left @ self.memory_right

    def logits(self, augmented: Tensor, class_vectors: nn.Linear) -> Tensor:
        """Return the logits of eq. 17, shape (N, K); `class_vectors` holds z (K, H) and c (K,)."""
        x, vectors = self.input_dropout(augmented), class_vectors.weight
        weight, bias = self.hidden.weight, self.hidden.bias
        keep = self.dropout(x.new_ones(len(x), len(weight)))
        if self.rank is None:
            if self.norm is not None:
                scale, shift = self.norm(self.hidden(x))
                weight, bias = weight * scale[:, None], bias * scale + shift
            logits: Tensor = CategoryAttention.apply(x, self.memory(), weight, bias, vectors, keep)
        else:
            products = low_rank_products(x, self.memory_right, weight)
            plain = products[:, 0] + bias
            others = products[:, 1:]
            if self.norm is not None:
                scale, shift = self.norm(plain)
                plain, others = plain * scale + shift, others * scale  # rows are fewer than the weights' columns
            products = torch.cat([plain[:, None], others], dim=1)
            logits = low_rank_logits(products, self.memory_left, vectors, keep)
        return logits + class_vectors.bias

    def forward(self, augmented: Tensor, class_vectors: nn.Linear) -> Tensor:
        """Return log-probabilities, shape (N, K)."""
        return torch.log_softmax(self.logits(augmented, class_vectors), dim=1)
