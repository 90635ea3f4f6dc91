"""The completer on the implicit library: a world with a known answer, and the library's habits."""

import numpy as np
import pytest

from nmcl.pipeline.completion import implicit_als
from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.completion.implicit_als import ImplicitCompleter

Blocks = dict[str, np.ndarray]


def checkerboard(n: int = 120) -> tuple[Blocks, Blocks]:
    """Even rows are high in odd columns, odd rows in even ones, in each block; the last rows lack block b."""
    parity = (np.arange(n)[:, None] + np.arange(10)[None, :]) % 2
    board = (parity + 0.05 * np.random.default_rng(0).standard_normal((n, 10))).astype(np.float32)
    truth = {"a": board[:, :6], "b": board[:, 6:]}
    blocks = {"a": truth["a"].copy(), "b": truth["b"].copy()}
    blocks["b"][-30:] = np.nan
    return truth, blocks


def test_continues_a_checkerboard() -> None:
    truth, blocks = checkerboard()
    completer = ImplicitCompleter(CompletionSettings(rank=4))
    out = completer.complete(blocks, completer.fit(blocks))
    assert np.abs(out["b"] - truth["b"]).max() < 0.35
    np.testing.assert_array_equal(out["b"][-30:] > 0.5, truth["b"][-30:] > 0.5)


def test_library_stays_silent_on_screen(capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar of its own; that it does not warn either is seen to by warnings being errors."""
    ImplicitCompleter(CompletionSettings(rank=4)).fit(checkerboard()[1])
    assert capfd.readouterr() == ("", "")


def test_its_sweeps_are_reported() -> None:
    reports: list[tuple[int, int]] = []

    def listen(stage: str, done: int, total: int, note: str = "") -> None:
        reports.append((done, total))

    ImplicitCompleter(CompletionSettings(rank=4, sweeps=3)).fit(checkerboard()[1], listen)
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_many_rows_are_sampled_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implicit_als, "MOST_ENTRIES", 500)
    truth, blocks = checkerboard()
    completer = ImplicitCompleter(CompletionSettings(rank=4))
    state = completer.fit(blocks)
    assert (state.info["n_rows"], state.info["n_rows_used"]) == (120, 50)
    out = completer.complete(blocks, state)
    np.testing.assert_array_equal(out["b"][-30:] > 0.5, truth["b"][-30:] > 0.5)
