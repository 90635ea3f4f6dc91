"""Registry of completers, and their selection."""

from dataclasses import replace
from typing import Any

from nmcl.pipeline.completion.als import AlsCompleter
from nmcl.pipeline.completion.base import Blocks, Completer, CompletionSettings
from nmcl.pipeline.completion.held_out import held_out_nrmse
from nmcl.pipeline.completion.implicit_als import ImplicitCompleter
from nmcl.pipeline.completion.mean import MeanCompleter
from nmcl.pipeline.completion.ridge import RidgeCompleter
from nmcl.pipeline.completion.stored import check_state
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State

COMPLETERS: dict[str, type[Completer]] = {
    "als": AlsCompleter,
    "implicit": ImplicitCompleter,
    "mean": MeanCompleter,
    "ridge": RidgeCompleter,
}
UNMEASURED = "mean"
"""Completer that `auto` uses if no block can be hidden: then no row shows how one block depends on another."""


def fit(blocks: Blocks, settings: CompletionSettings, progress: Progress = silent) -> State:
    """Fit the completer selected by the settings to training rows.

    With `auto`, `info["held_out"]` reports the error of every completer.

    Raises:
        StoreError: As `Completer.fit`.
    """
    if settings.method != "auto":
        return COMPLETERS[settings.method](settings).fit(blocks, progress)
    found = compare(blocks, settings, progress)
    chosen = replace(settings, method=best(found))  # type: ignore[arg-type]  # one of COMPLETERS
    state = fit(blocks, chosen, progress)
    return replace(state, info=state.info | {"held_out": found})


def complete(blocks: Blocks, state: State) -> Blocks:
    """Fill in missing blocks of any rows with a fitted completer.

    Raises:
        ModelError, StoreError: As `Completer.complete`.
    """
    settings = check_state(state)
    return COMPLETERS[state.info["method"]](settings).complete(blocks, state)


def compare(blocks: Blocks, settings: CompletionSettings, progress: Progress = silent) -> dict[str, Any]:
    """Return `held_out_nrmse` of every registered completer."""
    completers = {name: completer(settings) for name, completer in COMPLETERS.items()}
    return held_out_nrmse(blocks, completers, settings.seed, progress)


def best(found: dict[str, Any]) -> str:
    """Return the completer with the smallest overall error in a result of `held_out_nrmse`."""
    overall = {name: scores["overall"] for name, scores in found["nrmse"].items()}
    errors = {name: error for name, error in overall.items() if error is not None}
    return min(errors, key=lambda name: errors[name]) if errors else UNMEASURED
