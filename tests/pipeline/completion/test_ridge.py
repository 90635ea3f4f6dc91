"""Ridge lines against scikit-learn."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.completion.ridge import RidgeCompleter
from nmcl.pipeline.completion.scaling import fit_scaling
from nmcl.pipeline.completion.table import check

Blocks = dict[str, np.ndarray]
WorldMaker = Callable[..., tuple[Blocks, Blocks]]


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
