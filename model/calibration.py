"""Calibration of model probabilities on validation rows: inverse temperatures and stacking weights."""

import numpy as np
import scipy  # its modules load when they are used: most predictions need none of them

PAIR_PRIOR = 10.0
"""Prior of `pair_weights`, nats per squared weight."""
BOUNDS = (0.1, 100.0)
"""Bounds of the inverse temperature."""


def inverse_temperature(
    scores: np.ndarray, label: np.ndarray, bounds: tuple[float, float] = BOUNDS, smooth: bool = True
) -> float:
    """Fit the inverse temperature of log-probabilities or scores (N, K) by maximum likelihood of the labels.

    Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Labels are smoothed as in
    Platt, "Probabilistic outputs for support vector machines", 1999: otherwise a model without a mistake on few rows
    would become arbitrarily confident.

    Args:
        bounds: bounds of the inverse temperature.
        smooth: whether to smooth the labels.
    """
    n_rows, n_classes = scores.shape
    doubt = 1 / (n_rows + 2) if smooth else 0.0
    target = np.full(scores.shape, doubt / (n_classes - 1))
    target[np.arange(n_rows), label] = 1 - doubt

    def loss(log_factor: float) -> float:
        return -float((target * scipy.special.log_softmax(np.exp(log_factor) * scores, axis=1)).sum())

    low, high = np.log(bounds)
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def pool_weights(log_probability: np.ndarray, label: np.ndarray, prior: float) -> np.ndarray:
    """Fit the stacking weights W, shape (M, K, K), of a log-linear ensemble by maximum likelihood of the labels.

        log p_k = sum_i sum_j W_ikj log p_ij + const

    Stacking (Wolpert, "Stacked generalization", Neural Networks 5, 1992) by multinomial logistic regression, as
    matrix scaling does with one model (Guo et al., ICML 2017). A model that is good overall may confuse a pair of
    classes that another separates: W_ikk is the weight of model i's log-probability of class k for that class, W_ikj
    the weight of its log-probability of class j for class k. The likelihood has one maximum.

    Args:
        log_probability: log-probabilities of M models, shape (M, N, K).
        label: shape (N,).
        prior: strength of the penalty on the distance from the plain mean, W_ikj = (k = j) / M. The penalty, in nats of
            the likelihood of all rows, is `prior` times the squared distance of an entry over the squared `confusion`
            of both classes. A few validation rows do not justify leaving a model out, and the log-probability of a
            class says little about another one that no model confuses it with.
    """
    n_models, n_rows, n_classes = log_probability.shape
    target = np.eye(n_classes)[label]
    start = np.eye(n_classes) / n_models
    cost = prior / confusion(scipy.special.log_softmax(log_probability.mean(axis=0), axis=1)) ** 2

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        change = flat.reshape(n_models, n_classes, n_classes)
        pooled = scipy.special.log_softmax((log_probability @ (start + change).transpose(0, 2, 1)).sum(axis=0), axis=1)
        error = np.exp(pooled) - target
        slope = np.matmul(error.T, log_probability) + 2 * cost * change
        return float((cost * change**2).sum() - pooled[np.arange(n_rows), label].sum()), slope.ravel()

    found = scipy.optimize.minimize(loss, np.zeros(n_models * n_classes**2), jac=True, method="L-BFGS-B")
    weights: np.ndarray = start + found.x.reshape(n_models, n_classes, n_classes)
    return weights


def pair_weights(log_probability: np.ndarray, label: np.ndarray, share: float) -> tuple[float, float]:
    """Fit the two weights of a log-linear pair of models by maximum likelihood of the labels.

    Args:
        log_probability: log-probabilities of both models, shape (2, N, K).
        label: shape (N,).
        share: expected weight of the first, 0..1; that of the second is 1 - share. `PAIR_PRIOR` rows speak for it.
    """
    expected = np.array([share, 1 - share])
    rows = np.arange(len(label))

    def loss(weights: np.ndarray) -> float:
        pooled = scipy.special.log_softmax(np.tensordot(weights, log_probability, 1), axis=1)
        return float(PAIR_PRIOR * ((weights - expected) ** 2).sum() - pooled[rows, label].sum())

    own, other = scipy.optimize.minimize(loss, expected, method="L-BFGS-B", bounds=[(0, None), (0, None)]).x
    return float(own), float(other)


def confusion(log_probability: np.ndarray) -> np.ndarray:
    """Return how much each pair of classes is confused, shape (K, K), 0.001..1; 1 on the diagonal.

    This is minus the correlation of being j and being k, for labels drawn from probabilities p (N, K): sum_n p_nj p_nk
    over the geometric mean of sum_n p_nj (1 - p_nj) and the same sum for k. It is 1 where two classes are confused only
    with each other.
    """
    probability = np.exp(log_probability)
    doubt = np.sqrt((probability * (1 - probability)).sum(axis=0) + 1e-12)
    shared = probability.T @ probability / np.outer(doubt, doubt)
    np.fill_diagonal(shared, 1)
    confused: np.ndarray = np.clip(shared, 1e-3, 1)
    return confused
