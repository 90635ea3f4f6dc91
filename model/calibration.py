"""How far a model's probabilities are to be trusted, told by validation rows: sharpness, and shares of a mixture."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

SHARPNESS = (0.1, 100.0)
"""Bounds of the factor of scores before the softmax."""


def sharpest(scores: np.ndarray, label: np.ndarray) -> float:
    """The factor of log-probabilities or scores (N, K) under which the labels are likeliest: temperature scaling.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    rows = np.arange(len(label))

    def loss(log_factor: float) -> float:
        return -float(log_softmax(np.exp(log_factor) * scores, axis=1)[rows, label].mean())

    low, high = np.log(SHARPNESS)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def likeliest_share(first: np.ndarray, second: np.ndarray, label: np.ndarray, shares: np.ndarray) -> float:
    """The share of the second of two log-probabilities (N, K) in their mixture under which the labels are likeliest.

    Args:
        shares: those to choose from, 0..1; of equals the first.
    """
    rows = np.arange(len(label))
    own = np.stack([first[rows, label], second[rows, label]])
    with np.errstate(divide="ignore"):
        weights = np.log(np.stack([1 - shares, shares]))
    likelihood = logsumexp(own[:, :, None] + weights[:, None, :], axis=0).mean(axis=0)
    return float(shares[int(likelihood.argmax())])
