"""Significance tests and confidence intervals for differences between methods."""

from collections.abc import Callable

import numpy as np
from scipy import stats

RESAMPLES = 1000


def paired_t_test(first: np.ndarray, second: np.ndarray, overlap: float = 0.0) -> float | None:
    """Return the two-sided p-value of a paired t-test for equal means.

    None if nothing can be tested: with fewer than two pairs, or if all differences are the same. Two methods without
    random numbers on one split are like this: every seed repeats one comparison.

    Args:
        overlap: ratio of test to training rows where each pair is another random split of the same rows, as in Nadeau
            and Bengio, "Inference for the Generalization Error" (2003): the splits share rows, so the plain test
            (0) overstates significance.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    n = len(difference)
    if n < 2:
        return None
    mean, variance = difference.mean(), difference.var(ddof=1)
    if variance <= 1e-24:
        return None
    t = mean / np.sqrt(variance * (1 / n + overlap))
    return float(2 * stats.t.sf(abs(t), n - 1))


def mcnemar_test(right: np.ndarray, right_too: np.ndarray) -> float:
    """Return the exact two-sided p-value of McNemar's test on two bool arrays (N,) of right predictions."""
    only_first, only_second = int((right & ~right_too).sum()), int((right_too & ~right).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def permutation_test(
    measure: Callable[[np.ndarray, np.ndarray], float],
    label: np.ndarray,
    predicted: np.ndarray,
    predicted_too: np.ndarray,
    row: np.ndarray | None = None,
    seed: int = 0,
) -> float | None:
    """Return the two-sided p-value of a paired permutation test of `measure` for two methods on the same rows.

    Where the methods are equally good, their predictions of a row may be swapped (Yeh, "More accurate tests for the
    statistical significance of result differences", 2000). None if all predictions are the same.

    Args:
        label, predicted, predicted_too, row: See `bootstrap`. Predictions of the same row are swapped together.
    """
    if np.array_equal(predicted, predicted_too):
        return None
    if row is None:
        row = np.arange(len(label))
    _, place = np.unique(row, return_inverse=True)
    random, found = np.random.default_rng(seed), abs(measure(label, predicted) - measure(label, predicted_too))
    n_extreme = 0
    for _ in range(RESAMPLES):
        swapped = random.integers(0, 2, place.max() + 1, dtype=bool)[place]
        first, second = np.where(swapped, predicted_too, predicted), np.where(swapped, predicted, predicted_too)
        n_extreme += abs(measure(label, first) - measure(label, second)) >= found - 1e-12
    return (n_extreme + 1) / (RESAMPLES + 1)


def bootstrap(
    measure: Callable[[np.ndarray, np.ndarray], float],
    label: np.ndarray,
    predicted: np.ndarray,
    predicted_too: np.ndarray | None = None,
    row: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `measure(label, predicted) - measure(label, predicted_too)`.

    Without `predicted_too`, it is that of `measure(label, predicted)`.

    Args:
        label, predicted, predicted_too: shape (N,), indices.
        row: row number of each entry, shape (N,), >= 0; None if all are different. Predictions of the same row, such as
            those of several seeds, are resampled together, because they are not independent.
    """
    if row is None:
        row = np.arange(len(label))
    random, known = np.random.default_rng(seed), np.unique(row)
    values = []
    for _ in range(RESAMPLES):
        times_drawn = np.bincount(random.choice(known, len(known)), minlength=row.max() + 1)
        drawn = np.repeat(np.arange(len(row)), times_drawn[row])
        value = measure(label[drawn], predicted[drawn])
        values.append(value if predicted_too is None else value - measure(label[drawn], predicted_too[drawn]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
