"""Tests of significance against scipy, published formulas worked by hand, and slow obvious versions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from nmcl.model.evaluate import macro_f1
from nmcl.model.statistics import bootstrap, mcnemar_test, paired_t_test, permutation_test


def test_the_paired_test_is_scipys() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(5), random.random(5)
    assert paired_t_test(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_overlapping_splits_make_a_difference_less_sure() -> None:
    """Nadeau and Bengio (2003): the variance of the mean is s^2 (1 / J + n_test / n_train)."""
    difference = np.array([0.01, 0.03, 0.02, 0.02, 0.04])
    t = difference.mean() / np.sqrt(difference.var(ddof=1) * (1 / 5 + 0.3 / 0.49))
    assert paired_t_test(difference, np.zeros(5), overlap=0.3 / 0.49) == pytest.approx(2 * stats.t.sf(t, 4))


def test_differences_that_do_not_vary() -> None:
    same = np.array([0.5, 0.7])
    assert paired_t_test(same, same) is None
    assert paired_t_test(same + 0.25, same) is None
    assert paired_t_test(same[:1], same[:1]) is None


def test_mcnemar_counts_only_rows_decided_differently() -> None:
    first = np.array([True] * 8 + [False] * 2 + [True] * 50)
    second = np.array([False] * 8 + [True] * 2 + [True] * 50)
    expected = 2 * sum(stats.binom.pmf(k, 10, 0.5) for k in (0, 1, 2))
    assert mcnemar_test(first, second) == pytest.approx(expected)
    assert mcnemar_test(first, first) == 1.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    label, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    expected = f1_score(label, predicted, average="macro", zero_division=0.0)
    assert macro_f1(label, predicted) == pytest.approx(expected)


def test_the_bootstrap_interval_covers_the_difference() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 400)
    good = np.where(random.random(400) < 0.9, label, (label + 1) % 3)
    poor = np.where(random.random(400) < 0.6, label, (label + 1) % 3)
    low, high = bootstrap(macro_f1, label, good, poor)
    assert 0.2 < low < macro_f1(label, good) - macro_f1(label, poor) < high < 0.4
    assert bootstrap(macro_f1, label, good, good) == (0.0, 0.0)
    low, high = bootstrap(macro_f1, label, good)
    assert low < macro_f1(label, good) < high < low + 0.1


def test_permutations_of_the_accuracy_are_mcnemars_exact_test() -> None:
    def accuracy(label: np.ndarray, predicted: np.ndarray) -> float:
        return float((label == predicted).mean())

    label = np.zeros(60, int)
    first, second = np.array([0] * 9 + [1] * 2 + [0] * 49), np.array([1] * 9 + [0] * 2 + [0] * 49)
    expected = mcnemar_test(first == label, second == label)
    assert permutation_test(accuracy, label, first, second) == pytest.approx(expected, abs=0.03)
    five_times = [np.tile(array, 5) for array in (label, first, second, np.arange(60))]
    assert permutation_test(accuracy, *five_times) == pytest.approx(expected, abs=0.03)
    assert permutation_test(accuracy, label, first, first) is None


def test_one_row_of_many_is_no_difference() -> None:
    label = np.repeat(np.arange(3), 48)
    worse = label.copy()
    worse[0] = 1
    assert permutation_test(macro_f1, label, label, worse) == 1.0


def test_the_same_rows_decided_by_more_seeds_are_no_more_rows() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 100)
    good = np.where(random.random(100) < 0.9, label, (label + 1) % 3)
    poor = np.where(random.random(100) < 0.6, label, (label + 1) % 3)
    once = bootstrap(macro_f1, label, good, poor)
    five_times = [np.tile(array, 5) for array in (label, good, poor, np.arange(100))]
    np.testing.assert_allclose(bootstrap(macro_f1, *five_times), once)
    low, high = bootstrap(macro_f1, *five_times[:3])
    assert high - low < 0.6 * (once[1] - once[0])
