"""Compositions of the consistent and complementary parts: eq. 10 and 11, and the paper's four variants.

A composition turns the parts of every host modality into the input vectors of the heads, one vector per head. The
paper describes the variants in a sentence or two each (section 5.3.2); each class documents our interpretation.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from nmcl.model.layers import xavier_linear
from nmcl.model.nmcl.cooperative import Components

CompositionKind = Literal["cooperative", "variant_1", "variant_2", "variant_3", "variant_4"]


class Composition(nn.Module, ABC):
    """Base class that combines the parts of M modalities into one vector per head."""

    hosts: list[str | None]
    """The modality of each head; None for a head of all modalities."""
    widths: list[int]
    """Length of each head's input vector."""

    def __init__(self, dims: Mapping[str, int], hidden: int, dropout: float) -> None:
        """Create the module from D_m by modality, sorted by name, and H, the width of an enhanced part."""
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    @abstractmethod
    def forward(self, parts: Sequence[Components]) -> list[Tensor]:
        """Return one vector of shape (N, width) per head from the parts of each modality as host."""

    def _enhance(self, layer: nn.Linear, consistent: Sequence[Tensor]) -> Tensor:
        """Return the enhanced consistent part of eq. 10, shape (N, H)."""
        enhanced: Tensor = self.dropout(torch.relu(layer(torch.cat(list(consistent), dim=1))))
        return enhanced


class Cooperative(Composition):
    """NMCL's composition: x^ = [alpha_h, ReLU(W [beta_h, beta_g]), alpha_g] for each host (eq. 10 and 11)."""

    def __init__(self, dims: Mapping[str, int], hidden: int, dropout: float) -> None:
        super().__init__(dims, hidden, dropout)
        n_all = sum(dims.values())
        self.hosts = list(dims)
        self.widths = [n_all + hidden for _ in dims]
        self.layers = nn.ModuleList(xavier_linear(n_all, hidden) for _ in dims)

    def forward(self, parts: Sequence[Components]) -> list[Tensor]:
        vectors = []
        for layer, part in zip(self.layers, parts, strict=True):
            (alpha_h, alpha_g), consistent = part.complementary, part.consistent
            vectors.append(torch.cat([alpha_h, self._enhance(layer, consistent), alpha_g], dim=1))  # type: ignore[arg-type]
        return vectors


class HostOnly(Composition):
    """Variant-I, "Eq. 10 is removed": the guests' complementary part is added to the host's own two parts.

    The guests' consistent part is used only in the divergence, so each head sees [alpha_h, beta_h, alpha_g].
    """

    def __init__(self, dims: Mapping[str, int], hidden: int, dropout: float) -> None:
        super().__init__(dims, hidden, dropout)
        self.hosts = list(dims)
        self.widths = [n + sum(dims.values()) for n in dims.values()]

    def forward(self, parts: Sequence[Components]) -> list[Tensor]:
        return [torch.cat([p.complementary[0], p.consistent[0], p.complementary[1]], dim=1) for p in parts]


class ConsistentOnly(Composition):
    """Variant-II, "discards Eq. 11": each head sees only the enhanced part of eq. 10."""

    def __init__(self, dims: Mapping[str, int], hidden: int, dropout: float) -> None:
        super().__init__(dims, hidden, dropout)
        self.hosts = list(dims)
        self.widths = [hidden for _ in dims]
        self.layers = nn.ModuleList(xavier_linear(sum(dims.values()), hidden) for _ in dims)

    def forward(self, parts: Sequence[Components]) -> list[Tensor]:
        return [self._enhance(layer, p.consistent) for layer, p in zip(self.layers, parts, strict=True)]  # type: ignore[arg-type]


class SharedConsistent(Composition):
    """Variant-III: one enhanced part of all hosts' consistent parts, and each host's complementary part.

    It has M + 1 heads with late fusion: ReLU(W [beta_h of every modality]), and alpha_h of each modality.
    """

    def __init__(self, dims: Mapping[str, int], hidden: int, dropout: float) -> None:
        super().__init__(dims, hidden, dropout)
        self.hosts = [None, *dims]
        self.widths = [hidden, *dims.values()]
        self.layer = xavier_linear(sum(dims.values()), hidden)

    def forward(self, parts: Sequence[Components]) -> list[Tensor]:
        enhanced = self._enhance(self.layer, [part.consistent[0] for part in parts])
        return [enhanced, *(part.complementary[0] for part in parts)]


class TwoParts(Composition):
    """Variant-IV: one head on all hosts' complementary parts and one on all hosts' consistent parts."""

    def __init__(self, dims: Mapping[str, int], hidden: int, dropout: float) -> None:
        super().__init__(dims, hidden, dropout)
        n_all = sum(dims.values())
        self.hosts = [None, None]
        self.widths = [n_all, n_all]

    def forward(self, parts: Sequence[Components]) -> list[Tensor]:
        return [
            torch.cat([part.complementary[0] for part in parts], dim=1),
            torch.cat([part.consistent[0] for part in parts], dim=1),
        ]


COMPOSITIONS: dict[CompositionKind, type[Composition]] = {
    "cooperative": Cooperative,
    "variant_1": HostOnly,
    "variant_2": ConsistentOnly,
    "variant_3": SharedConsistent,
    "variant_4": TwoParts,
}
