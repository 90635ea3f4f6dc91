"""Slow float64 transcriptions of the paper's equations, row by row and category by category."""

import numpy as np


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return np.asarray(powers / powers.sum())


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def paper_weights(logits: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """gamma and delta of eq. 4 and 8 with w = 50."""
    score = softmax(logits)
    gamma = np.array([s / (1 + np.exp(-50 * (s - threshold))) for s in score])
    return gamma, 1 - gamma


def scaled_weights(logits: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Softmax of mean 1, clamped at 1, w = 5, with the differentiable eq. 7."""
    score = softmax(logits) * len(logits)
    gate = np.array([sigmoid(5 * (s - threshold)) for s in score])
    weight = np.minimum(score, 1.0)
    return weight * gate, (1 - weight) * (1 - gate)


def sigmoid_weights(logits: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Sigmoid scores, w = 10, with the differentiable eq. 7."""
    score = np.array([sigmoid(value) for value in logits])
    gate = np.array([sigmoid(10 * (s - threshold)) for s in score])
    return score * gate, (1 - score) * (1 - gate)


def head_logits(
    x: np.ndarray,
    memory: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    vectors: np.ndarray,
    offsets: np.ndarray,
    relu: bool = True,
) -> np.ndarray:
    """Equations 15 to 17 for rows x (N, D), before the softmax, shape (N, K)."""
    logits = np.zeros((len(x), len(memory)))
    for n, row in enumerate(x):
        for k, attention in enumerate(memory):
            psi = attention * row
            theta = weight @ psi + bias
            if relu:
                theta = np.maximum(theta, 0.0)
            logits[n, k] = vectors[k] @ theta + offsets[k]
    return logits


def paper_divergence(p_host: np.ndarray, p_guest: np.ndarray) -> float:
    """Equation 13 of one row."""
    return sum(g * np.log(h) - h * np.log(g) for h, g in zip(p_host, p_guest, strict=True))


def half_jeffreys(p_host: np.ndarray, p_guest: np.ndarray) -> float:
    """(KL(h || g) + KL(g || h)) / 2 of one row."""
    there = sum(h * np.log(h / g) for h, g in zip(p_host, p_guest, strict=True))
    back = sum(g * np.log(g / h) for h, g in zip(p_host, p_guest, strict=True))
    return 0.5 * (there + back)
