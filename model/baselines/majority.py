"""Majority: class frequencies of the training rows, whatever the video."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nmcl.model.base import Classifier, Epoch, Features, Mask, Output, Shape
from nmcl.model.data import Dataset
from nmcl.pipeline.progress import Progress

UNSEEN = -30.0
"""Log-probability of a class without a training row: finite, and practically zero."""


@dataclass(frozen=True)
class MajoritySettings:
    """Frozen settings of the majority baseline, which has none."""


class Majority(Classifier):
    """Baseline that predicts each class's share of the training rows for every row: any method must beat it.

    The decision is always the most frequent class. There is no source; the paper's Early Fusion scores like it.
    """

    log_share: Tensor

    def __init__(self, shape: Shape, settings: MajoritySettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("log_share", torch.zeros(shape.n_classes))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        count = torch.bincount(torch.from_numpy(train.label), minlength=len(self.log_share))
        self.log_share.copy_((count / len(train)).log().clamp_min(UNSEEN).log_softmax(dim=0))
        return ()

    def forward(self, features: Features, observed: Mask) -> Output:
        n_rows = len(next(iter(features.values())))
        return Output(self.log_share.expand(n_rows, -1))
