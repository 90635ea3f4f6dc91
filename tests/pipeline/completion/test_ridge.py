"""Ridge lines against scikit-learn, from blocks and from moments, and which patterns get a line."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.completion.ridge import (
    SHRINKAGES,
    FewRows,
    Line,
    Lines,
    Moments,
    RidgeCompleter,
    Support,
    columns,
    fit_line,
    patterns_to_learn,
    support,
)
from nmcl.pipeline.completion.scaling import fit_scaling
from nmcl.pipeline.completion.table import check

Blocks = dict[str, np.ndarray]
WorldMaker = Callable[..., tuple[Blocks, Blocks]]


def moments(rows: np.ndarray) -> Moments:
    return FewRows(rows).moments


@pytest.mark.parametrize("balance", [False, True])
def test_each_pattern_and_target_is_a_ridge_on_the_rows_that_have_both(make_world: WorldMaker, balance: bool) -> None:
    truth, blocks = make_world()
    completer = RidgeCompleter(CompletionSettings(regularization=0.2, balance=balance))
    state = completer.fit(blocks)
    scaling = fit_scaling(check(blocks), balance=balance)
    z = {name: scaling.standardise(name, block).astype(np.float64) for name, block in blocks.items()}
    later = {name: scaling.standardise(name, block).astype(np.float64) for name, block in truth.items()}
    for source, target in ((["a"], "b"), (["a", "b"], "c"), (["b", "c"], "a"), (["c"], "a")):
        rows = np.all([~np.isnan(z[name][:, 0]) for name in (*source, target)], axis=0)
        x = np.concatenate([z[name] for name in source], axis=1)
        expected = Ridge(alpha=0.2 * rows.sum()).fit(x[rows], z[target][rows])
        given = {n: block if n in source else np.full_like(block, np.nan) for n, block in truth.items()}
        out = completer.complete(given, state)[target]
        predicted = expected.predict(np.concatenate([later[name] for name in source], axis=1))
        np.testing.assert_allclose(out, scaling.restore(target, predicted), rtol=1e-4, atol=1e-4 * np.abs(out).max())


def test_three_blocks_have_nine_lines(make_world: WorldMaker) -> None:
    lines = RidgeCompleter(CompletionSettings()).fit(make_world()[1]).info["lines"]
    pairs = {(tuple(line["from"]), line["to"]) for line in lines}
    assert len(pairs) == len(lines) == 9


def test_real_views_come_out_as_published_elsewhere(digits: tuple[Blocks, Blocks]) -> None:
    """The best of the simple completers; other implementations measured 0.88 (fou) and 0.63 (zer)."""
    truth, blocks = digits
    completer = RidgeCompleter(CompletionSettings())
    out = completer.complete(blocks, completer.fit(blocks))
    scaling = fit_scaling(check(blocks), balance=False)
    for name, most in (("fou", 0.92), ("zer", 0.67)):
        missing = np.isnan(blocks[name][:, 0])
        z = scaling.standardise(name, truth[name][missing])
        assert np.linalg.norm(scaling.standardise(name, out[name][missing]) - z) < most * np.linalg.norm(z)


def problem(n: int, d: int, t: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + 2.0
    return x, x @ rng.standard_normal((d, t)) / np.sqrt(d) + noise * rng.standard_normal((n, t)) - 1.0


@pytest.mark.parametrize("kind", [moments, FewRows])
@pytest.mark.parametrize(("n", "d"), [(50, 6), (10, 30)])
def test_is_the_ridge_of_scikit_learn(kind: Callable[[np.ndarray], Support], n: int, d: int) -> None:
    x, y = problem(n, d, 4, noise=0.5)
    line, shrinkage = fit_line(kind(np.concatenate([x, y], axis=1)), d, 0.3)
    expected = Ridge(alpha=0.3 * n).fit(x, y)
    assert shrinkage == 0.3
    np.testing.assert_allclose(line(x), expected.predict(x), rtol=1e-4, atol=1e-5)


def test_chosen_shrinkage_has_the_least_generalised_cross_validation_error() -> None:
    x, y = problem(40, 12, 3, noise=2.0)
    _, chosen = fit_line(moments(np.concatenate([x, y], axis=1)), 12, None)
    centred = x - x.mean(axis=0)
    errors = []
    for shrinkage in SHRINKAGES:
        hat = centred @ np.linalg.solve(centred.T @ centred + 40 * shrinkage * np.eye(12), centred.T) + 1 / 40
        errors.append(40 * ((y - hat @ y) ** 2).sum() / (40 - np.trace(hat)) ** 2)
    assert chosen == pytest.approx(SHRINKAGES[int(np.argmin(errors))])


@given(
    n=st.integers(1, 40),
    d=st.integers(1, 60),
    t=st.integers(1, 5),
    noise=st.sampled_from([0.0, 0.1, 10.0]),
    n_equal=st.integers(0, 10),
    shrinkage=st.sampled_from([1e-5, 1e-2, 1.0, 1e5]),
)
def test_rows_and_their_moments_give_the_same_ridge(
    n: int, d: int, t: int, noise: float, n_equal: int, shrinkage: float
) -> None:
    x, y = problem(n, d, t, noise)
    rows = np.concatenate([x, y], axis=1)
    rows[:n_equal] = rows[0]
    few, all_of_them = FewRows(rows).solver(d), moments(rows).solver(d)
    scale = 1 + np.abs(y).max()
    np.testing.assert_allclose(few.line(shrinkage)(x), all_of_them.line(shrinkage)(x), atol=1e-5 * scale)


def test_rows_that_repeat_are_not_interpolated() -> None:
    """Where some rows are equal, residual and remaining freedom both vanish at little shrinkage, at different rates."""
    x, y = problem(85, 200, 30, noise=100.0)
    x[:10], y[:10] = x[0], y[0]
    assert fit_line(FewRows(np.concatenate([x, y], axis=1)), 200, None)[1] > 0.1


def test_more_noise_asks_for_more_shrinkage() -> None:
    chosen = []
    for noise in (0.01, 1.0, 100.0):
        x, y = problem(60, 20, 5, noise)
        chosen.append(fit_line(moments(np.concatenate([x, y], axis=1)), 20, None)[1])
    assert chosen[0] < chosen[1] < chosen[2]


def test_one_row_gives_its_own_values() -> None:
    x, y = problem(1, 3, 2, noise=0.0)
    line, _ = fit_line(moments(np.concatenate([x, y], axis=1)), 3, None)
    np.testing.assert_allclose(line(np.zeros((1, 3))), y, rtol=1e-6)


def test_moments_add_up() -> None:
    x, _ = problem(20, 4, 1, noise=1.0)
    both, whole = moments(x[:7]) + moments(x[7:]), moments(x)
    assert both.n == whole.n == 20
    np.testing.assert_allclose(both.total, whole.total)
    np.testing.assert_allclose(both.products, whole.products)
    np.testing.assert_allclose(whole.of(np.array([2, 0])).products, x[:, [2, 0]].T @ x[:, [2, 0]])


def test_three_names_learn_every_pattern_and_five_do_not() -> None:
    assert len(patterns_to_learn(("a", "b", "c"), set())) == 6
    five = patterns_to_learn(("a", "b", "c", "d", "e"), {("a", "b"), (), ("a", "b", "c", "d", "e")})
    assert ("a", "b") in five
    assert len(five) == 5 + 5 + 1


def test_columns_of_blocks_within_others() -> None:
    assert columns(("c", "a"), ("a", "b", "c"), {"a": 2, "b": 3, "c": 2}).tolist() == [5, 6, 0, 1]


def test_the_line_that_uses_most_is_taken() -> None:
    lines = Lines()
    for source in (("a",), ("b",), ("a", "b")):
        lines.add(source, "d", Line(np.full((1, 1), len(source)), np.zeros(1)), 1.0)
    found = lines.best(("a", "b", "c"), "d")
    assert found is not None
    assert found[0] == ("a", "b")
    assert lines.best(("c",), "d") is None


def test_rows_are_kept_while_they_take_less_than_their_moments() -> None:
    x, _ = problem(9, 10, 0, noise=0.0)
    few = support(x[:4]) + support(x[4:])
    assert isinstance(few, FewRows)
    np.testing.assert_array_equal(few.rows, x)
    enough = [support(x[:2]) + few, few + support(x[:2]), few + support(x[:2]).moments, support(x[:2]).moments + few]
    for both in enough:
        assert isinstance(both, Moments)
        np.testing.assert_allclose(both.products, x.T @ x + x[:2].T @ x[:2])
    assert isinstance(few.of(np.arange(5)) + support(x[:1, :5]), Moments)
