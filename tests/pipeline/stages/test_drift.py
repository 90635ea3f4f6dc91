"""Figures of drift against slow, obvious or published ways to the same numbers."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from nmcl.pipeline.stages import drift
from nmcl.pipeline.stages.drift import DriftSettings

SETTINGS = DriftSettings()
MEASURES: dict[str, Callable[[np.ndarray], drift.Measure]] = {
    "mean_shift": drift.mean_shift,
    "covariance_shift": drift.covariance_shift,
    "mmd": lambda rows: drift.squared_mmd(drift.gaussian_kernel(rows)),
}
tables = arrays(np.float64, st.tuples(st.integers(6, 20), st.integers(1, 4)), elements=st.integers(-9, 9).map(float))


def obvious_mean_shift(old: np.ndarray, new: np.ndarray) -> float:
    total = 0.0
    for a, b in zip(old.T, new.T, strict=True):
        within = (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / (len(a) + len(b))
        total += (a.mean() - b.mean()) ** 2 / max(within, 1e-6)
    return float(np.sqrt(total / old.shape[1]))


def obvious_covariance_shift(old: np.ndarray, new: np.ndarray) -> float:
    def covariance(rows: np.ndarray) -> np.ndarray:
        return sum(np.outer(row, row) for row in rows - rows.mean(axis=0)) / (len(rows) - 1)

    squares = [(c**2).sum() for c in (covariance(new) - covariance(old), covariance(old))]
    return float(np.sqrt(squares[0] / squares[1])) if squares[1] > 0 else 0.0


def obvious_mmd(old: np.ndarray, new: np.ndarray) -> float:
    rows = [*old, *new]
    distances = [float(((a - b) ** 2).sum()) for a, b in itertools.combinations(rows, 2)]
    median = float(np.median(distances))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / (2 * median))) if median else 1.0

    own = [np.mean([kernel(a, b) for a, b in itertools.permutations(side, 2)]) for side in (old, new)]
    return float(sum(own) - 2 * np.mean([kernel(a, b) for a in old for b in new]))


OBVIOUS = {"mean_shift": obvious_mean_shift, "covariance_shift": obvious_covariance_shift, "mmd": obvious_mmd}


@pytest.mark.parametrize("name", sorted(MEASURES))
@given(rows=tables, random=st.randoms(use_true_random=False))
def test_measures_are_what_they_say(name: str, rows: np.ndarray, random: object) -> None:
    permutations = np.stack([np.arange(len(rows)) % k == 0 for k in (2, 3)])
    found = MEASURES[name](rows)(permutations)
    expected = [OBVIOUS[name](rows[~is_new], rows[is_new]) for is_new in permutations]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2).filter(lambda x: len({b for _, b in x}) == 2))
def test_total_variation(rows: list[tuple[int, bool]]) -> None:
    labels, is_new = np.array([label for label, _ in rows]), np.array([new for _, new in rows])
    shares = [[np.mean(labels[side] == k) for k in range(6)] for side in (is_new, ~is_new)]
    expected = max(sum(shares[0][k] - shares[1][k] for k in chosen) for n in range(7) for chosen in combinations(n))
    assert drift.total_variation(labels)(is_new[None])[0] == pytest.approx(expected)


def combinations(n: int) -> list[tuple[int, ...]]:
    return [*itertools.combinations(range(6), n)]


def test_mmd_of_two_gaussians_is_as_the_integral_says() -> None:
    """Of N(0, 1) and N(d, 1) under exp(-x^2 / 2 s^2) it is 2 s / r (1 - exp(-d^2 / 2 r^2)) with r^2 = s^2 + 2."""
    random, d, s = np.random.default_rng(0), 1.5, 1.2
    rows = np.concatenate([random.normal(0, 1, 2000), random.normal(d, 1, 2000)])
    kernel = np.exp(-((rows[:, None] - rows) ** 2) / (2 * s**2))
    r = np.sqrt(s**2 + 2)
    found = drift.squared_mmd(kernel)((np.arange(4000) >= 2000)[None])[0]
    assert found == pytest.approx(2 * s / r * (1 - np.exp(-(d**2) / (2 * r**2))), abs=0.02)


def test_p_value_and_chance_are_those_of_a_permutation_test() -> None:
    random = np.random.default_rng(1)
    old, new = random.random(200) < 0.10, random.random(80) < 0.20
    found = drift.of_files(old, new, replace(SETTINGS, permutations=5000))["failed"]
    expected = stats.permutation_test(
        (new.astype(float), old.astype(float)),
        lambda a, b: abs(a.mean() - b.mean()),
        n_resamples=5000,
        alternative="greater",
        rng=2,
    )
    assert found.value == expected.statistic
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.02)
    assert found.null_mean == pytest.approx(expected.null_distribution.mean(), abs=0.002)


def test_the_same_kind_of_rows_does_not_exceed_any_limit() -> None:
    random = np.random.default_rng(0)
    found = drift.of_vectors(random.normal(size=(400, 60)), random.normal(size=(100, 60)), SETTINGS)
    assert list(found) == ["missing", "mean_shift", "covariance_shift", "mmd"]
    assert not any(f.exceeded for f in found.values())
    assert found["mmd"].null_mean == pytest.approx(0, abs=1e-3)
    assert abs(found["mean_shift"].value - found["mean_shift"].null_mean) < 0.03  # type: ignore[operator]


@pytest.mark.parametrize("name", ["missing", "mean_shift", "covariance_shift", "mmd"])
def test_each_kind_of_drift_exceeds_its_limit(name: str) -> None:
    random = np.random.default_rng(0)
    old, new = random.normal(size=(300, 20)), random.normal(size=(120, 20))
    match name:
        case "missing":
            new[:60] = np.nan
        case "mean_shift":
            new += 1.5
        case "covariance_shift":
            new = random.normal(size=(120, 1)) * np.ones(20)
        case "mmd":
            new = new * 0.05 + 3
    figures = drift.of_vectors(old, new, SETTINGS)
    assert figures[name].exceeded
    if name in ("missing", "covariance_shift"):
        assert not figures["mean_shift"].exceeded


def test_a_shift_of_the_mean_is_none_of_the_covariance() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 8))
    figures = drift.of_vectors(rows[:300], rows[300:] + 5, SETTINGS)
    assert figures["covariance_shift"].value < 0.4  # type: ignore[operator]


def test_few_rows_are_reported_and_stop_nothing() -> None:
    random = np.random.default_rng(0)
    old, new = random.normal(size=(300, 20)), random.normal(size=(20, 20)) + 9
    figures = drift.of_vectors(old, new, SETTINGS)
    assert figures["mean_shift"].value > 1  # type: ignore[operator]
    assert not any(f.exceeded for f in figures.values())


@pytest.mark.parametrize("n_new", [0, 1, 40])
def test_a_modality_that_nobody_or_hardly_anybody_has(n_new: int) -> None:
    old, new = np.ones((50, 4), np.float32), np.full((n_new, 4), np.nan, np.float32)
    figures = drift.of_vectors(old, new, SETTINGS)
    assert figures["missing"].exceeded == (n_new >= SETTINGS.min_rows)
    assert figures["mean_shift"].value is figures["mmd"].value is figures["covariance_shift"].value is None


def test_unknown_words_are_counted_over_all_words() -> None:
    old, new = np.array([[1, 10], [0, 10]]), np.array([[4, 5], [0, 15]])
    found = drift.of_words(old, new, SETTINGS)["unknown_words"]
    assert found.value == pytest.approx(4 / 20 - 1 / 20)


def test_many_rows_are_sampled_alike() -> None:
    random = np.random.default_rng(0)
    old, new = random.normal(size=(500, 5)), random.normal(size=(500, 5))
    few = replace(SETTINGS, max_rows=50)
    first, again = (drift.of_vectors(old, new, few) for _ in range(2))
    assert first == again
    assert {f.n_new for f in first.values()} == {50}
    every = np.ones(500, bool)
    loaded = drift.of_vectors(old[drift.sample(every, few)], new[drift.sample(every, few)], few)
    assert loaded == first


def test_the_sample_is_of_the_rows_in_question() -> None:
    rows = np.arange(300) % 3 == 0
    found = drift.sample(rows, replace(SETTINGS, max_rows=40))
    assert found.sum() == 40
    assert not (found & ~rows).any()
    np.testing.assert_array_equal(drift.sample(rows, SETTINGS), rows)
