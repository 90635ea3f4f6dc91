"""Late Fusion: one network per modality, deeper for wider ones, and the mean of their predictions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le, Lt

from nmcl.model.base import Shape
from nmcl.model.baselines.fusion import LateNetwork
from nmcl.model.layers import perceptron
from nmcl.model.train import TrainSettings
from nmcl.pipeline.addressing import Reference

MAX_DEPTH = 3
"""Hidden layers of the deepest branch."""


@dataclass(frozen=True)
class LateFusionSettings:
    """Frozen settings of Late Fusion; the hidden width is the paper's."""

    hidden: Annotated[int, Ge(1), Le(65536), Reference(256)] = 256
    """Hidden width, the paper's."""
    dropout: Annotated[float, Ge(0), Lt(1), Reference(0.3)] = 0.3
    """Dropout rate of every hidden layer; the paper gives no rate."""
    train: TrainSettings = field(default_factory=lambda: TrainSettings(learning_rate=5e-3, weight_decay=1.0))
    """Chosen by validation macro-F1 on 980 rows of three views: 0.886, against 0.870 to 0.874 at a rate of 2e-3."""


class LateFusion(LateNetwork):
    """The baseline Late Fusion of the NMCL paper (section 5.1.2).

    It fuses the distributions of networks "with one, two and three hidden layers for the textual, acoustic and visual
    modality". Interpretation: each is trained by its own cross-entropy, and the fusion is their mean. Any modalities
    are allowed here; the paper's depths follow the widths of its features (100, 200, 2048), and so do these.
    """

    def __init__(self, shape: Shape, settings: LateFusionSettings) -> None:
        classifiers = [
            perceptron(n_features, [settings.hidden] * depth, shape.n_classes, settings.dropout)
            for n_features, depth in zip(shape.dims.values(), depths(shape.dims), strict=True)
        ]
        super().__init__(list(shape.dims), classifiers, settings.train)
        self.settings = settings


def depths(dims: Mapping[str, int]) -> list[int]:
    """Return the hidden layers of each modality: 1 for the narrowest, one more for each next, at most 3.

    Among equal widths the first is shallower.
    """
    ranked = sorted(dims, key=lambda name: dims[name])
    return [min(ranked.index(name) + 1, MAX_DEPTH) for name in dims]
