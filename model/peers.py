"""The peers of NMCL: what models in closed form tell joins the late fusion, as far as it helps.

Not in the paper. Stochastic gradients on few rows do not find everything: a kernel machine learns a smoother boundary,
a well regularised logistic regression follows directions of small variance; and both err on other rows.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from model.base import Features, Shape, VenueModel
from model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from model.baselines.logistic import Logistic, LogisticSettings
from model.calibration import mixture_weights, sharpest
from model.data import Dataset
from pipeline.progress import Progress

PeerKind = Literal["kernel_ridge", "logistic"]
PEERS: dict[PeerKind, Callable[[Shape], VenueModel]] = {
    "kernel_ridge": lambda shape: KernelRidge(shape, KernelRidgeSettings()),
    "logistic": lambda shape: Logistic(shape, LogisticSettings()),
}
PRIOR_ROWS = 50.0
"""How many validation rows the wish for equal shares counts for."""


class Peers(nn.Module):
    """p = sum_i share_i softmax(s_i log p_i) over the networks together, which come first, and each peer.

    Before `fit` the networks have it all.
    """

    share: Tensor
    sharpness: Tensor

    def __init__(self, shape: Shape, kinds: Sequence[PeerKind]) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        self.models = nn.ModuleList(PEERS[kind](shape) for kind in kinds)
        self.register_buffer("share", torch.eye(1 + len(kinds))[0])
        self.register_buffer("sharpness", torch.ones(1 + len(kinds)))

    def fit(self, train: Dataset, validation: Dataset, fused: np.ndarray, seed: int, progress: Progress) -> None:
        """Learn the models from training rows; sharpness and shares by the likelihood of validation rows.

        The factors come first: a cautious model would lose its share to a bold one that is right no more often.

        Args:
            fused: log-probabilities of the validation rows, shape (N, K), by the networks.
        """

        def told(stage: str, done: int, total: int, note: str = "") -> None:
            progress("train: peers", done, total, note)

        features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
        opinions = [fused]
        for model in self.models:
            model.fit(train, validation, seed, told)  # type: ignore[operator]  # a VenueModel
            with torch.inference_mode():
                opinions.append(model(features, {}).log_probability.numpy())
        factors = [sharpest(opinion, validation.label) for opinion in opinions]
        sharpened = [log_softmax(factor * x, axis=1) for factor, x in zip(factors, opinions, strict=True)]
        self.sharpness.copy_(torch.tensor(factors))
        self.share.copy_(torch.from_numpy(mixture_weights(np.stack(sharpened), validation.label, PRIOR_ROWS)))

    def forward(self, fused: Tensor, features: Features) -> Tensor:
        """Log-probabilities, shape (N, K). Args: fused: those of the networks; features: standardised."""
        opinions = [fused, *(model(features, {}).log_probability for model in self.models)]
        weighted = [
            torch.log_softmax(self.sharpness[i] * opinion, dim=1) + torch.log(self.share[i])
            for i, opinion in enumerate(opinions)
        ]
        return torch.logsumexp(torch.stack(weighted), dim=0)

    def shares(self) -> dict[str, float]:
        """By name, 0..1; the rest is the networks'."""
        return dict(zip(self.kinds, self.share[1:].tolist(), strict=True))
