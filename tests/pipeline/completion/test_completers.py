"""What every registered completer promises."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmcl.pipeline.completion import COMPLETERS, Completer, CompletionSettings, address, complete, empty_rows, fit
from nmcl.pipeline.errors import ModelError, StoreError, UserError
from nmcl.pipeline.records import State

Blocks = dict[str, np.ndarray]
WorldMaker = Callable[..., tuple[Blocks, Blocks]]


@pytest.fixture(params=sorted(COMPLETERS))
def completer(request: pytest.FixtureRequest) -> Completer:
    """Each registered completer, with a regularisation of its own choice."""
    return COMPLETERS[request.param](CompletionSettings(method=request.param, rank=4, sweeps=10))


def gone(block: np.ndarray) -> np.ndarray:
    """A block that no row has."""
    return np.full_like(block, np.nan)


def take(blocks: Blocks, rows: Any) -> Blocks:
    return {name: block[rows] for name, block in blocks.items()}


def is_same_state(left: State, right: State) -> bool:
    same = left.arrays.keys() == right.arrays.keys() and left.info == right.info
    return same and all(np.array_equal(left.arrays[key], right.arrays[key]) for key in left.arrays)


def test_everything_missing_is_filled(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    out = completer.complete(blocks, completer.fit(blocks))
    for name, block in blocks.items():
        assert out[name].shape == block.shape
        assert out[name].dtype == np.float32
        assert np.isfinite(out[name]).all()


def test_observed_entries_come_back_bit_for_bit(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    before = {name: block.copy() for name, block in blocks.items()}
    out = completer.complete(blocks, completer.fit(blocks))
    for name, block in blocks.items():
        assert block.tobytes() == before[name].tobytes()
        there = ~np.isnan(block)
        assert out[name][there].tobytes() == block[there].tobytes()


def test_is_deterministic_and_ignores_the_order_of_names(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    backwards = dict(reversed(list(blocks.items())))
    first, second = completer.fit(blocks), completer.fit(backwards)
    assert is_same_state(first, second)
    for name, block in completer.complete(blocks, first).items():
        np.testing.assert_array_equal(block, completer.complete(backwards, second)[name])


def test_a_row_depends_on_itself_and_the_state_alone(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world(40)
    state = completer.fit(blocks)
    together = completer.complete(blocks, state)
    for row in range(0, 40, 3):
        alone = completer.complete(take(blocks, slice(row, row + 1)), state)
        for name in blocks:
            np.testing.assert_allclose(alone[name][0], together[name][row], rtol=1e-5, atol=1e-6)


def test_completing_changes_no_state(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    state = completer.fit(blocks)
    arrays = {key: array.copy() for key, array in state.arrays.items()}
    info = json.loads(json.dumps(state.info))
    completer.complete(make_world(seed=1)[1], state)
    assert is_same_state(state, State(arrays, info))


def test_state_survives_being_written_down(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    state = completer.fit(blocks)
    buffer = io.BytesIO()
    np.savez(buffer, **state.arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as arrays:
        read = State(dict(arrays), json.loads(json.dumps(state.info, allow_nan=False)))
    for name, block in complete(blocks, read).items():
        np.testing.assert_array_equal(block, completer.complete(blocks, state)[name])


def test_no_missing_rows_at_all(completer: Completer, make_world: WorldMaker) -> None:
    truth, blocks = make_world()
    state = completer.fit(truth)
    out = completer.complete(truth, state)
    assert all(out[name] is truth[name] for name in truth)
    assert np.isfinite(completer.complete(blocks, state)["a"]).all()


def test_block_never_observed_is_zero_and_said(completer: Completer, make_world: WorldMaker) -> None:
    truth, blocks = make_world()
    blocks["b"] = gone(blocks["b"])
    state = completer.fit(blocks)
    assert state.info["never_observed"] == ["b"]
    assert not completer.complete(blocks, state)["b"].any()
    later = truth | {"a": gone(truth["a"])}
    without = completer.complete(later | {"b": gone(truth["b"])}, state)
    with_it = completer.complete(later, state)
    np.testing.assert_allclose(with_it["a"], without["a"], rtol=1e-6)
    np.testing.assert_array_equal(with_it["b"], truth["b"])


def test_row_without_any_modality_gets_the_means(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    for block in blocks.values():
        block[[3, 11]] = np.nan
    state = completer.fit(blocks)
    assert state.info["n_empty_rows"] == 2
    assert np.flatnonzero(empty_rows(blocks)).tolist() == [3, 11]
    out = completer.complete(blocks, state)
    for name, block in blocks.items():
        np.testing.assert_allclose(out[name][3], np.nanmean(block.astype(np.float64), axis=0), rtol=1e-5)


def test_training_rows_without_any_modality(completer: Completer, make_world: WorldMaker) -> None:
    truth, _ = make_world()
    empty = {name: gone(block) for name, block in truth.items()}
    state = completer.fit(empty)
    assert state.info["never_observed"] == ["a", "b", "c"]
    assert not completer.complete(empty, state)["a"].any()


@pytest.mark.parametrize("n", [1, 2, 8])
def test_few_rows(completer: Completer, make_world: WorldMaker, n: int) -> None:
    truth, _ = make_world()
    blocks = {name: block[:n].copy() for name, block in truth.items()}
    blocks["c"][n // 2 :] = np.nan
    out = completer.complete(blocks, completer.fit(blocks))
    assert all(np.isfinite(block).all() for block in out.values())


def test_no_rows(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    nothing = take(blocks, slice(0, 0))
    assert completer.complete(nothing, completer.fit(blocks))["a"].shape == (0, 7)
    with pytest.raises(StoreError, match="no training rows"):
        completer.fit(nothing)


def test_a_single_block(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    alone = {"a": blocks["a"]}
    out = completer.complete(alone, completer.fit(alone))
    missing = np.isnan(blocks["a"][:, 0])
    mean = np.nanmean(blocks["a"].astype(np.float64), axis=0)
    np.testing.assert_allclose(out["a"][missing], np.tile(mean, (missing.sum(), 1)), rtol=1e-5)


def test_blocks_never_seen_together(completer: Completer, make_world: WorldMaker) -> None:
    truth, _ = make_world()
    blocks = {"a": truth["a"].copy(), "b": truth["b"].copy()}
    blocks["a"][:80] = np.nan
    blocks["b"][80:] = np.nan
    out = completer.complete(blocks, completer.fit(blocks))
    assert all(np.isfinite(block).all() for block in out.values())


def test_five_blocks_and_patterns_not_seen_in_training(completer: Completer, make_world: WorldMaker) -> None:
    truth, blocks = make_world()
    more = blocks | {"d": truth["a"] * 2, "e": truth["b"] + 1}
    state = completer.fit(more)
    rows = {name: block[:5].copy() for name, block in (truth | {"d": truth["a"], "e": truth["b"]}).items()}
    for name in ("a", "b", "e"):
        rows[name][:] = np.nan
    out = completer.complete(rows, state)
    assert all(np.isfinite(block).all() for block in out.values())


def test_rank_larger_than_rows_or_columns(make_world: WorldMaker) -> None:
    _, blocks = make_world(16)
    for name in COMPLETERS:
        completer = COMPLETERS[name](CompletionSettings(rank=1000, sweeps=5))
        out = completer.complete(blocks, completer.fit(blocks))
        assert all(np.isfinite(block).all() for block in out.values())


def test_constant_features_stay_constant(completer: Completer, make_world: WorldMaker) -> None:
    _, blocks = make_world()
    there = ~np.isnan(blocks["a"][:, 0])
    blocks["a"][there, 2] = 12345.678
    blocks["b"][~np.isnan(blocks["b"][:, 0])] = 0
    out = completer.complete(blocks, completer.fit(blocks))
    np.testing.assert_allclose(out["a"][:, 2], 12345.678, rtol=1e-6)
    assert not out["b"].any()


def test_huge_values_stay_finite(completer: Completer, make_world: WorldMaker) -> None:
    truth, blocks = make_world()
    there = np.flatnonzero(~np.isnan(blocks["a"][:, 0]))
    blocks["a"][there[0], 0] = 3e38
    blocks["a"][there[1], 0] = -3e38
    state = completer.fit(blocks)
    later = {name: block.copy() for name, block in truth.items()}
    later["b"][:] = -3e38
    later["c"][:] = np.nan
    for rows in (blocks, later):
        assert all(np.isfinite(block).all() for block in completer.complete(rows, state).values())


def test_row_that_is_nan_in_part_is_refused(completer: Completer, make_world: WorldMaker) -> None:
    truth, blocks = make_world()
    truth["b"][7, 1] = np.nan
    expected = r"Row 7 of 'b' has 1 NaN in 5 columns"
    with pytest.raises(StoreError, match=expected):
        completer.fit(truth)
    with pytest.raises(StoreError, match=expected):
        completer.complete(truth, completer.fit(blocks))


def test_infinite_value_is_refused(completer: Completer, make_world: WorldMaker) -> None:
    truth, _ = make_world()
    truth["c"][5, 0] = -np.inf
    with pytest.raises(StoreError, match="Row 5 of 'c' has an infinite value"):
        completer.fit(truth)


def test_other_widths_or_modalities_are_refused(completer: Completer, make_world: WorldMaker) -> None:
    truth, blocks = make_world()
    state = completer.fit(blocks)
    with pytest.raises(ModelError, match="was fitted on"):
        completer.complete(truth | {"a": truth["a"][:, :3].copy()}, state)
    with pytest.raises(ModelError, match="was fitted on"):
        completer.complete({"a": truth["a"]}, state)
    assert issubclass(ModelError, UserError)


@pytest.mark.parametrize("method", ["als", "ridge", "implicit"])
def test_beats_the_mean_by_far_on_low_rank_blocks(method: str, make_world: WorldMaker) -> None:
    truth, blocks = make_world(400, noise=0.1)
    errors = {}
    for name in (method, "mean"):
        completer = COMPLETERS[name](CompletionSettings(rank=6))
        out = completer.complete(blocks, completer.fit(blocks))
        missing = np.isnan(blocks["c"][:, 0])
        errors[name] = np.linalg.norm(out["c"][missing] - truth["c"][missing])
    assert errors[method] < 0.6 * errors["mean"]


def test_auto_takes_the_best_and_says_how_all_did(make_world: WorldMaker) -> None:
    _, blocks = make_world()
    state = fit(blocks, CompletionSettings(rank=4, sweeps=10))
    scores = {name: found["overall"] for name, found in state.info["held_out"]["nrmse"].items()}
    assert scores.keys() == COMPLETERS.keys()
    assert state.info["method"] == min(scores, key=lambda name: scores[name])
    assert np.isfinite(complete(blocks, state)["a"]).all()


def test_auto_takes_the_mean_where_nothing_can_be_measured(make_world: WorldMaker) -> None:
    truth, _ = make_world()
    assert fit(take(truth, slice(0, 1)), CompletionSettings()).info["method"] == "mean"


def test_address_tells_settings_apart_and_is_json() -> None:
    one, other = address(CompletionSettings()), address(CompletionSettings(regularization=0.1))
    assert one != other
    assert json.loads(json.dumps(one)) == one


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_missingness_is_completed(data: st.DataObject, make_world: WorldMaker) -> None:
    """Whatever is missing in training or later, the result is finite and keeps what was there."""
    truth, _ = make_world(12)
    state = None
    for _ in ("training", "later"):
        has = data.draw(st.lists(st.tuples(*[st.booleans()] * 3), min_size=12, max_size=12))
        there = dict(zip("abc", np.array(has).T, strict=True))
        blocks = {name: np.where(there[name][:, None], block, np.float32(np.nan)) for name, block in truth.items()}
        method = data.draw(st.sampled_from(["als", "mean", "ridge"]))
        state = state or fit(blocks, CompletionSettings(method=method, rank=2, sweeps=3, regularization=0.1))
        for name, block in complete(blocks, state).items():
            assert np.isfinite(block).all()
            np.testing.assert_array_equal(block[there[name]], blocks[name][there[name]])
