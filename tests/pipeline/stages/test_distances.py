"""Distances of standardised vectors, against scikit-learn."""

import numpy as np
from sklearn.metrics.pairwise import cosine_distances
from sklearn.preprocessing import StandardScaler

from nmcl.pipeline.stages.distances import close_pairs, distances, standard_of

RANDOM = np.random.default_rng(0)


def vectors(n: int, dim: int) -> np.ndarray:
    return (RANDOM.normal(size=(n, dim)) * RANDOM.uniform(0.1, 50, dim) + 7).astype(np.float32)


def test_distances_are_those_of_scikit_learn() -> None:
    rows = vectors(60, 20)
    expected = cosine_distances(StandardScaler().fit_transform(rows.astype(np.float64)))
    standard = standard_of([rows[:25], rows[25:]])
    assert standard is not None
    directions = standard.directions(rows)
    found = np.stack([distances(directions, direction) for direction in directions])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_constant_columns_and_absent_rows() -> None:
    rows = vectors(10, 5)
    rows[:, 2] = 3
    rows[4] = np.nan
    standard = standard_of([rows])
    assert standard is not None
    without = standard_of([rows[:, [0, 1, 3, 4]]])
    assert without is not None
    found, expected = standard.directions(rows), without.directions(rows[:, [0, 1, 3, 4]])
    np.testing.assert_allclose(found[:, [0, 1, 3, 4]], expected, rtol=1e-6)
    assert np.isnan(found[4]).all()
    assert not np.isnan(np.delete(found, 4, axis=0)).any()
    assert standard_of([rows[4:5]]) is None


def test_close_pairs_are_all_pairs_within_the_radius() -> None:
    first, second = vectors(40, 6), vectors(30, 6)
    first[3] = np.nan
    standard = standard_of([first, second])
    assert standard is not None
    one, other = standard.directions(first), standard.directions(second)
    present = np.delete(np.arange(40), 3)
    apart = cosine_distances(one[present], other)
    radius = float(np.quantile(apart, 0.2))
    expected = {(int(present[i]), int(j)) for i, j in zip(*np.nonzero(apart <= radius), strict=True)}
    found = {(i, j): distance for i, j, distance in close_pairs(one, other, radius)}
    assert found.keys() == expected
    assert not list(close_pairs(first[3:4], other, 2.0))
