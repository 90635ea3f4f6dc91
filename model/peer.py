"""The peer of NMCL: what a model in closed form tells joins the late fusion, as far as it helps.

Not in the paper. Stochastic gradients on few rows do not find everything: a kernel machine learns a smoother boundary,
a well regularised logistic regression follows directions of small variance; and both err on other rows.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from model.base import Features, Shape, VenueModel
from model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from model.baselines.logistic import Logistic, LogisticSettings
from model.calibration import likeliest_share, sharpest
from model.data import Dataset
from pipeline.progress import Progress

PeerKind = Literal["kernel_ridge", "logistic", "none"]
PEERS: dict[PeerKind, Callable[[Shape], VenueModel]] = {
    "kernel_ridge": lambda shape: KernelRidge(shape, KernelRidgeSettings()),
    "logistic": lambda shape: Logistic(shape, LogisticSettings()),
}
SHARES = np.linspace(0.0, 0.5, 11)
"""At most as much as all networks together: a few hundred validation rows are no ground for leaving them out."""


class Peer(nn.Module):
    """p = (1 - share) softmax(s_1 log p_fused) + share softmax(s_2 log p_peer); before `fit` the share is 0."""

    share: Tensor
    sharpness: Tensor

    def __init__(self, shape: Shape, kind: PeerKind) -> None:
        super().__init__()
        self.model = PEERS[kind](shape)
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("sharpness", torch.ones(2))

    def fit(self, train: Dataset, validation: Dataset, fused: np.ndarray, seed: int, progress: Progress) -> None:
        """Learn the model from training rows; sharpness and share by the likelihood of validation rows.

        The factors come first: a cautious model would lose its share to a bold one that is right no more often.

        Args:
            fused: log-probabilities of the validation rows, shape (N, K), by the networks.
        """

        def told(stage: str, done: int, total: int, note: str = "") -> None:
            progress("train: peer", done, total, note)

        self.model.fit(train, validation, seed, told)
        with torch.inference_mode():
            features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
            own = self.model(features, {}).log_probability.numpy()
        factors = [sharpest(log_probability, validation.label) for log_probability in (fused, own)]
        first, second = log_softmax(factors[0] * fused, axis=1), log_softmax(factors[1] * own, axis=1)
        self.sharpness.copy_(torch.tensor(factors))
        self.share.fill_(likeliest_share(first, second, validation.label, SHARES))

    def forward(self, fused: Tensor, features: Features) -> Tensor:
        """Log-probabilities, shape (N, K). Args: fused: those of the networks; features: standardised."""
        own = self.model(features, {}).log_probability
        first = torch.log_softmax(self.sharpness[0] * fused, dim=1) + torch.log1p(-self.share)
        second = torch.log_softmax(self.sharpness[1] * own, dim=1) + torch.log(self.share)
        return torch.logaddexp(first, second)
