"""MLP: the usual first choice today for concatenated features."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Le, Lt

from nmcl.model.base import Shape
from nmcl.model.baselines.fusion import EarlyNetwork
from nmcl.model.layers import perceptron
from nmcl.model.train import TrainSettings
from nmcl.pipeline.addressing import Reference


@dataclass(frozen=True)
class MLPSettings:
    """Frozen settings of the MLP, which has two hidden layers of decreasing width."""

    hidden: Annotated[int, Ge(2), Le(65536), Reference(512)] = 512
    """Width of the first hidden layer; the second is half as wide."""
    dropout: Annotated[float, Ge(0), Lt(1), Reference(0.3)] = 0.3
    """Dropout rate of both hidden layers."""
    label_smoothing: Annotated[float, Ge(0), Lt(1), Reference(0.1)] = 0.1
    """Share of the target spread over all classes; validation macro-F1 is as good as without it or up to 0.003 better.
    """
    train: TrainSettings = field(default_factory=TrainSettings)
    """Common defaults: by validation on 980 rows of three views no learning rate from 5e-4 to 5e-3 or weaker decay was
    better by more than the noise."""


class MLP(EarlyNetwork):
    """MLP with two blocks of linear, batch normalisation (Ioffe and Szegedy, ICML 2015), ReLU and dropout, and a head.

    There is no single source: it is the usual network for vectors, trained with AdamW like all others here.
    """

    def __init__(self, shape: Shape, settings: MLPSettings) -> None:
        widths = [settings.hidden, settings.hidden // 2]
        n_features = sum(shape.dims.values())
        classifier = perceptron(n_features, widths, shape.n_classes, settings.dropout, batch_norm=True)
        super().__init__(list(shape.dims), classifier, settings.train, settings.label_smoothing)
        self.settings = settings
