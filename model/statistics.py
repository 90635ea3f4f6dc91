"""How sure a difference is."""

from collections.abc import Callable

import numpy as np
from scipy import stats

RESAMPLES = 1000


def paired_t_test(first: np.ndarray, second: np.ndarray, overlap: float = 0.0) -> float | None:
    """Two-sided p-value that the paired values have equal means; None with fewer than two pairs.

    Equal values give 1; a difference that never varies gives 0.

    Args:
        overlap: test rows over training rows where each pair is another random split of the same rows, as in Nadeau
            and Bengio, "Inference for the Generalization Error" (2003): the splits share rows, so the plain test
            (0) takes a difference for surer than it is.
    """
    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    n = len(difference)
    if n < 2:
        return None
    mean, variance = difference.mean(), difference.var(ddof=1)
    if variance <= 1e-24:
        return 1.0 if abs(mean) <= 1e-12 else 0.0
    t = mean / np.sqrt(variance * (1 / n + overlap))
    return float(2 * stats.t.sf(abs(t), n - 1))


def mcnemar_test(right: np.ndarray, right_too: np.ndarray) -> float:
    """Exact two-sided p-value that two methods are right equally often. Args: shape (N,), bool."""
    only_first, only_second = int((right & ~right_too).sum()), int((right_too & ~right).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def bootstrap(
    measure: Callable[[np.ndarray, np.ndarray], float],
    label: np.ndarray,
    predicted: np.ndarray,
    predicted_too: np.ndarray,
    row: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of `measure(label, predicted) - measure(label, predicted_too)` over resampled rows.

    Args:
        label, predicted, predicted_too: shape (N,), indices.
        row: shape (N,), which row each is, 0 and up: several predictions of one row, as of several seeds, are drawn
            together, as they are no news of other rows. None: all are different.
    """
    if row is None:
        row = np.arange(len(label))
    random, known = np.random.default_rng(seed), np.unique(row)
    differences = []
    for _ in range(RESAMPLES):
        times_drawn = np.bincount(random.choice(known, len(known)), minlength=row.max() + 1)
        drawn = np.repeat(np.arange(len(row)), times_drawn[row])
        differences.append(measure(label[drawn], predicted[drawn]) - measure(label[drawn], predicted_too[drawn]))
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(label: np.ndarray, predicted: np.ndarray) -> float:
    """As `nmcl.model.evaluate.f1`, several times faster: the bootstrap asks a thousand times."""
    n = int(max(label.max(), predicted.max())) + 1
    hits = np.bincount(label[label == predicted], minlength=n)
    total = np.bincount(label, minlength=n) + np.bincount(predicted, minlength=n)
    return float((2 * hits[total > 0] / total[total > 0]).mean())
