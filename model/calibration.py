"""How far models' probabilities are to be trusted, told by validation rows: sharpness, and weights of a pool."""

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

SHARPNESS = (0.1, 100.0)
"""Bounds of the factor of scores before the softmax."""


def sharpest(scores: np.ndarray, label: np.ndarray) -> float:
    """The factor of log-probabilities or scores (N, K) under which the labels are likeliest: temperature scaling.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Labels are doubted as in Platt, "Probabilistic
    outputs for support vector machines", 1999: a model without a mistake on few rows would become sure of everything.
    """
    n_rows, n_classes = scores.shape
    doubt = 1 / (n_rows + 2)
    target = np.full(scores.shape, doubt / (n_classes - 1))
    target[np.arange(n_rows), label] = 1 - doubt

    def loss(log_factor: float) -> float:
        return -float((target * log_softmax(np.exp(log_factor) * scores, axis=1)).sum())

    low, high = np.log(SHARPNESS)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def pool_weights(log_probability: np.ndarray, label: np.ndarray, prior: float) -> np.ndarray:
    """Weights w of a logarithmic opinion pool, p_k ~ prod_i p_ik^w_ik, under which the labels are likeliest: (M, K).

    Stacking (Wolpert, "Stacked generalization", Neural Networks 5, 1992) with a weight for each model and class: one
    that is good on the whole may be blind to a pair of classes that another tells apart. A weight below zero is a
    model that errs there more often than by chance. The likelihood has one maximum.

    Args:
        log_probability: of M models, shape (M, N, K).
        label: shape (N,).
        prior: what a squared distance of 1 from the equal weight 1 / M costs, in nats of the likelihood of all rows:
            a few validation rows are no ground for leaving a model out.
    """
    n_models, n_rows, n_classes = log_probability.shape
    target = np.eye(n_classes)[label]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        change = flat.reshape(n_models, n_classes)
        pooled = log_softmax(np.einsum("ik,ink->nk", change + 1 / n_models, log_probability), axis=1)
        slope = np.einsum("nk,ink->ik", np.exp(pooled) - target, log_probability) + 2 * prior * change
        return prior * float((change**2).sum()) - float(pooled[np.arange(n_rows), label].sum()), slope.ravel()

    found = minimize(loss, np.zeros(n_models * n_classes), jac=True, method="L-BFGS-B")
    weights: np.ndarray = 1 / n_models + found.x.reshape(n_models, n_classes)
    return weights
