"""How far models' probabilities are to be trusted, told by validation rows: sharpness, and weights of a mixture."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

SHARPNESS = (0.1, 100.0)
"""Bounds of the factor of scores before the softmax."""
EM_STEPS = 200


def sharpest(scores: np.ndarray, label: np.ndarray) -> float:
    """The factor of log-probabilities or scores (N, K) under which the labels are likeliest: temperature scaling.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    rows = np.arange(len(label))

    def loss(log_factor: float) -> float:
        return -float(log_softmax(np.exp(log_factor) * scores, axis=1)[rows, label].mean())

    low, high = np.log(SHARPNESS)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def mixture_weights(log_probability: np.ndarray, label: np.ndarray, prior_rows: float) -> np.ndarray:
    """Weights of a mixture of models under which the labels are likeliest, drawn to equal ones: shape (M,), sum to 1.

    Expectation maximisation (Dempster, Laird and Rubin, 1977); the likelihood has one maximum.

    Args:
        log_probability: of M models, shape (M, N, K).
        label: shape (N,).
        prior_rows: rows that the wish for equal weights counts for: a few validation rows are no ground for leaving a
            model out.
    """
    n_models, n_rows = log_probability.shape[:2]
    own = log_probability[:, np.arange(n_rows), label]
    weights = np.full(n_models, 1 / n_models)
    for _ in range(EM_STEPS):
        responsibility = softmax(own + np.log(weights)[:, None], axis=0)
        weights = (responsibility.sum(axis=1) + prior_rows / n_models) / (n_rows + prior_rows)
    return weights
