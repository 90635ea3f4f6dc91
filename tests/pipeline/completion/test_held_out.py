"""The measurement that compares completers."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from nmcl.pipeline.completion import COMPLETERS, CompletionSettings, best, held_out_nrmse
from nmcl.pipeline.completion.mean import MeanCompleter
from nmcl.pipeline.completion.ridge import RidgeCompleter

Blocks = dict[str, np.ndarray]
WorldMaker = Callable[..., tuple[Blocks, Blocks]]
SIMPLE = {"mean": MeanCompleter(CompletionSettings()), "ridge": RidgeCompleter(CompletionSettings())}


def test_the_mean_scores_one_and_ridge_less(make_world: WorldMaker) -> None:
    found = held_out_nrmse(make_world(800)[1], SIMPLE, seed=0)
    for error in found["nrmse"]["mean"]["per_modality"].values():
        assert error == pytest.approx(1, abs=0.05)
    assert found["nrmse"]["ridge"]["overall"] < 0.6
    assert best(found) == "ridge"


def test_is_the_relative_error_in_standardised_units() -> None:
    """A block that is a copy of another is predicted without error; a block of noise is not predictable."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 3)).astype(np.float32)
    blocks = {"a": a, "copy": 1000 * a + 5, "noise": rng.standard_normal((400, 3)).astype(np.float32)}
    errors = held_out_nrmse(blocks, SIMPLE, seed=0)["nrmse"]["ridge"]["per_modality"]
    assert errors["copy"] < 0.01
    assert errors["noise"] == pytest.approx(1, abs=0.1)


def test_does_not_touch_the_rows_and_is_repeatable(make_world: WorldMaker) -> None:
    _, blocks = make_world()
    before = {name: block.tobytes() for name, block in blocks.items()}
    first = held_out_nrmse(blocks, SIMPLE, seed=3)
    assert first == held_out_nrmse(blocks, SIMPLE, seed=3)
    assert first != held_out_nrmse(blocks, SIMPLE, seed=4)
    assert {name: block.tobytes() for name, block in blocks.items()} == before
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_hides_as_nature_does_with_a_floor(make_world: WorldMaker) -> None:
    truth, _ = make_world(1000)
    truth["a"][:300] = np.nan
    found = held_out_nrmse(truth, SIMPLE, seed=0)
    assert found["hidden"] == {"a": 210, "b": 70, "c": 70}
    assert found["weight"]["a"] > 0.98
    assert sum(found["weight"].values()) == pytest.approx(1)


def test_blocks_that_are_always_missing_together_are_hidden_together(make_world: WorldMaker) -> None:
    """Two feature sets of one text: the second gives the first away, but only where neither is missing."""
    truth, _ = make_world(1000)
    truth["a"][:300] = np.nan
    truth["again"] = 2 * truth["a"]
    found = held_out_nrmse(truth, SIMPLE, seed=0)
    assert found["hidden"] == {"a": 210, "again": 210, "b": 70, "c": 70}
    alone = held_out_nrmse({name: block for name, block in truth.items() if name != "again"}, SIMPLE, seed=0)
    error = found["nrmse"]["ridge"]["per_modality"]["a"]
    assert error == pytest.approx(alone["nrmse"]["ridge"]["per_modality"]["a"], rel=0.1)
    assert error > 0.1
    only = {name: truth[name] for name in ("a", "again")}
    assert not any(held_out_nrmse(only, SIMPLE, seed=0)["hidden"].values())


@pytest.mark.parametrize("n_rows", [183, 190, 192])
def test_the_last_of_many_blocks_is_measured_too(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    blocks = {f"b{i}": rng.standard_normal((n_rows, 2)).astype(np.float32) for i in range(7)}
    found = held_out_nrmse(blocks, SIMPLE, seed=0)
    assert min(found["hidden"].values()) > 0
    assert sum(found["hidden"].values()) <= n_rows // 2
    assert None not in found["nrmse"]["ridge"]["per_modality"].values()


def test_many_rows_are_sampled_and_it_says_so(make_world: WorldMaker) -> None:
    found = held_out_nrmse(make_world(300)[1], SIMPLE, seed=0, max_rows=100)
    assert (found["n_rows"], found["n_rows_used"]) == (300, 100)
    assert sum(found["hidden"].values()) <= 50


def test_none_where_nothing_can_be_hidden(make_world: WorldMaker) -> None:
    truth, _ = make_world()
    one_row = {name: block[:1] for name, block in truth.items()}
    one_block = {"a": truth["a"]}
    never_together = {"a": truth["a"].copy(), "b": truth["b"].copy()}
    never_together["a"][::2] = np.nan
    never_together["b"][1::2] = np.nan
    for blocks in (one_row, one_block, never_together):
        found = held_out_nrmse(blocks, SIMPLE, seed=0)
        assert found["nrmse"]["ridge"]["overall"] is None
        assert set(found["nrmse"]["ridge"]["per_modality"].values()) == {None}
        assert not any(found["hidden"].values())
        assert best(found) == "mean"


def test_a_block_never_observed_is_left_out(make_world: WorldMaker) -> None:
    truth, _ = make_world()
    truth["b"][:] = np.nan
    errors = held_out_nrmse(truth, SIMPLE, seed=0)["nrmse"]["ridge"]["per_modality"]
    assert errors["b"] is None
    assert errors["a"] < 1


def test_order_of_completers_on_real_views(digits: tuple[Blocks, Blocks]) -> None:
    settings = CompletionSettings(sweeps=15)
    completers = {name: completer(settings) for name, completer in COMPLETERS.items()}
    found = held_out_nrmse(digits[1], completers, seed=0)
    overall = {name: scores["overall"] for name, scores in found["nrmse"].items()}
    assert overall["ridge"] < overall["als"] < overall["mean"]
    assert overall["implicit"] < overall["mean"]
