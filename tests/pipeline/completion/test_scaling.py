"""Working units."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nmcl.pipeline.completion.scaling import LIMIT, fit_scaling
from nmcl.pipeline.completion.table import CHUNK_ROWS, check

Blocks = dict[str, np.ndarray]
WorldMaker = Callable[..., tuple[Blocks, Blocks]]


def test_mean_and_deviation_of_the_observed_rows_over_several_chunks() -> None:
    block = np.random.default_rng(0).normal(1000, 0.1, (2 * CHUNK_ROWS + 10, 3)).astype(np.float32)
    block[5:500] = np.nan
    scaling = fit_scaling(check({"a": block}), balance=False)
    exact = block.astype(np.float64)
    np.testing.assert_allclose(scaling.mean["a"], np.nanmean(exact, axis=0), rtol=1e-6)
    np.testing.assert_allclose(scaling.std["a"], np.nanstd(exact, axis=0), rtol=1e-5)


def test_balanced_blocks_have_the_same_sum_of_squares(make_world: WorldMaker) -> None:
    truth, _ = make_world()
    scaling = fit_scaling(check(truth), balance=True)
    squares = [float((scaling.standardise(name, block) ** 2).sum()) for name, block in truth.items()]
    assert squares == pytest.approx([squares[0]] * 3, rel=1e-4)
    assert sum(squares) == pytest.approx(sum(block.size for block in truth.values()), rel=1e-4)


def test_constant_and_far_values() -> None:
    block = np.array([[7, 0], [7, 1], [7, 2]], dtype=np.float32)
    scaling = fit_scaling(check({"a": block}), balance=False)
    z = scaling.standardise("a", np.array([[1e30, -3e38]], dtype=np.float32))
    assert z.tolist() == [[0, -LIMIT]]


@given(
    block=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-1e4, 1e4, width=32)
    )
)
def test_restoring_undoes_standardising(block: np.ndarray) -> None:
    scaling = fit_scaling(check({"a": block, "b": block[:, :1]}), balance=True)
    z = scaling.standardise("a", block)
    assert np.isfinite(z).all()
    np.testing.assert_allclose(scaling.restore("a", z), block, rtol=1e-4, atol=1e-4 * np.abs(block).max() + 1e-30)
