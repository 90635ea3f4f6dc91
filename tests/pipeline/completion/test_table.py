"""Checked blocks."""

import numpy as np
import pytest

from nmcl.pipeline.completion.table import CHUNK_ROWS, check, empty_rows, walk
from nmcl.pipeline.errors import StoreError


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def test_walk_meets_every_row_once_with_its_pattern() -> None:
    n = 2 * CHUNK_ROWS + 7
    rng = np.random.default_rng(0)
    has = {name: rng.random(n) < 0.6 for name in ("x", "m", "z")}
    blocks = {name: np.where(mask[:, None], zeros(n, 2), np.float32(np.nan)) for name, mask in has.items()}
    met = np.zeros(n, dtype=int)
    for pattern, rows in walk(check(blocks)):
        met[rows] += 1
        assert len(rows) <= CHUNK_ROWS
        for name in blocks:
            assert (has[name][rows] == (name in pattern)).all()
        assert pattern == tuple(sorted(pattern))
    assert (met == 1).all()


def test_blocks_are_sorted_and_not_copied() -> None:
    blocks = {"b": zeros(3, 2), "a": zeros(3, 1)}
    table = check(blocks)
    assert list(table.modalities) == ["a", "b"]
    assert table.modalities["b"] is blocks["b"]
    assert (len(table), table.dims, table.n_observed) == (3, {"a": 1, "b": 2}, {"a": 3, "b": 3})


def test_empty_rows() -> None:
    blocks = {"a": zeros(3, 2), "b": zeros(3, 2)}
    blocks["a"][1:] = np.nan
    blocks["b"][2] = np.nan
    assert empty_rows(blocks).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({}, "no feature block"),
        ({"a": zeros(3)}, r"shape \(3,\)"),
        ({"a": zeros(3, 0)}, "at least one column"),
        ({"a": zeros(3, 2).astype(np.float64)}, "float64"),
        ({"a": zeros(3, 2), "b": zeros(4, 2)}, "different numbers of rows"),
    ],
)
def test_what_cannot_be_completed_is_refused(blocks: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        check(blocks)
