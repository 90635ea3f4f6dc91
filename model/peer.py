"""The linear peer of NMCL: what a plain linear model tells joins the late fusion, as far as it helps.

Not in the paper. On few rows a well regularised logistic regression finds directions of small variance that a network
trained by stochastic gradients does not, and no branch of eq. 18 is linear.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from torch import Tensor, nn

from model.base import Features, Shape
from model.baselines.logistic import Logistic, LogisticSettings
from model.data import Dataset
from pipeline.progress import Progress

SHARES = np.linspace(0.0, 0.5, 11)
"""At most as much as all heads together: a few hundred validation rows are no ground for leaving them out."""
SHARPNESS = (0.1, 10.0)
"""Bounds of the factor of log-probabilities before they are mixed."""


class LinearPeer(nn.Module):
    """p = (1 - share) softmax(s_1 log p_fused) + share softmax(s_2 log p_linear); before `fit` the share is 0."""

    share: Tensor
    sharpness: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.logistic = Logistic(shape, LogisticSettings())
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("sharpness", torch.ones(2))

    def fit(self, train: Dataset, validation: Dataset, fused: np.ndarray, seed: int, progress: Progress) -> None:
        """Learn the linear model from training rows; sharpness and share by the likelihood of validation rows.

        The factors come first: a cautious model would lose its share to a bold one that is right no more often.

        Args:
            fused: log-probabilities of the validation rows, shape (N, K), by the heads of NMCL.
        """

        def told(stage: str, done: int, total: int, note: str = "") -> None:
            progress("train: linear peer", done, total, note)

        self.logistic.fit(train, validation, seed, told)
        with torch.inference_mode():
            features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
            own = self.logistic(features, {}).log_probability.numpy()
        factors = [sharpest(log_probability, validation.label) for log_probability in (fused, own)]
        first, second = log_softmax(factors[0] * fused, axis=1), log_softmax(factors[1] * own, axis=1)
        self.sharpness.copy_(torch.tensor(factors))
        self.share.fill_(likeliest_share(first, second, validation.label))

    def forward(self, fused: Tensor, features: Features) -> Tensor:
        """Log-probabilities, shape (N, K). Args: fused: those of the heads; features: standardised."""
        own = self.logistic(features, {}).log_probability
        first = torch.log_softmax(self.sharpness[0] * fused, dim=1) + torch.log1p(-self.share)
        second = torch.log_softmax(self.sharpness[1] * own, dim=1) + torch.log(self.share)
        return torch.logaddexp(first, second)


def sharpest(log_probability: np.ndarray, label: np.ndarray) -> float:
    """The factor of log-probabilities (N, K) under which the labels are likeliest: temperature scaling, Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017."""
    rows = np.arange(len(label))

    def loss(log_factor: float) -> float:
        return -float(log_softmax(np.exp(log_factor) * log_probability, axis=1)[rows, label].mean())

    low, high = np.log(SHARPNESS)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def likeliest_share(first: np.ndarray, second: np.ndarray, label: np.ndarray) -> float:
    """The share of the second of two log-probabilities (N, K) in their mixture under which the labels are likeliest."""
    rows = np.arange(len(label))
    own = np.stack([first[rows, label], second[rows, label]])
    with np.errstate(divide="ignore"):
        weights = np.log(np.stack([1 - SHARES, SHARES]))
    likelihood = logsumexp(own[:, :, None] + weights[:, None, :], axis=0).mean(axis=0)
    return float(SHARES[int(likelihood.argmax())])
