"""Confidence intervals of scores, against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from nmcl.flows.run.intervals import bootstrap, exact


def test_macro_f1_agrees_with_resampling_by_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 120)
    predicted = np.where(rng.random(120) < 0.7, label, rng.integers(0, 4, 120))
    found = bootstrap(label, predicted, 4, n_resamples=4000)
    drawn = [rng.integers(0, 120, 120) for _ in range(1500)]
    macro = [f1_score(label[rows], predicted[rows], average="macro") for rows in drawn]
    np.testing.assert_allclose(found, np.quantile(macro, (0.025, 0.975)), atol=0.015)


def test_one_score_in_all_resamples_has_no_width() -> None:
    label = np.arange(30) % 3
    assert bootstrap(label, label, 3) == (1.0, 1.0)
    assert bootstrap(np.array([0]), np.array([1]), 2) == (0.0, 0.0)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (4, 4), (0, 30), (22, 27), (1640, 2700), (9999, 10_000)])
def test_a_share_agrees_with_scipy(k: int, n: int) -> None:
    wanted = stats.binomtest(k, n).proportion_ci(method="exact")
    np.testing.assert_allclose(exact(k, n), (wanted.low, wanted.high), atol=1e-9)
