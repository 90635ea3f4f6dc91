"""Bootstrap intervals of scores."""

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score

from nmcl.flows.run.intervals import bootstrap


def test_agrees_with_resampling_by_scikit_learn_and_with_scipy() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 120)
    predicted = np.where(rng.random(120) < 0.7, label, rng.integers(0, 4, 120))
    found = bootstrap(label, predicted, 4, n_resamples=4000)
    drawn = [rng.integers(0, 120, 120) for _ in range(1500)]
    macro = [f1_score(label[rows], predicted[rows], average="macro") for rows in drawn]
    np.testing.assert_allclose(found["macro_f1"], np.quantile(macro, (0.025, 0.975)), atol=0.015)
    exact = stats.binomtest(int((label == predicted).sum()), 120).proportion_ci(method="exact")
    np.testing.assert_allclose(found["micro_f1"], (exact.low, exact.high), atol=0.02)


def test_of_perfect_predictions_and_of_one_row() -> None:
    label = np.arange(30) % 3
    assert bootstrap(label, label, 3) == {"micro_f1": (1.0, 1.0), "macro_f1": (1.0, 1.0)}
    assert bootstrap(np.array([0]), np.array([1]), 2) == {"micro_f1": (0.0, 0.0), "macro_f1": (0.0, 0.0)}
