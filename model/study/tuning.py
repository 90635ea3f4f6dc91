"""Hyperparameter search with the same number of trials on the same validation rows for every method."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from nmcl.model.registry import Method
from nmcl.model.study.folds import Fold
from nmcl.model.study.results import Trial as Tried
from nmcl.model.study.runner import Runner
from nmcl.model.study.trials import Trial, score


def tune(
    methods: Mapping[str, Method], rows: Fold, budget: int, runner: Runner
) -> tuple[dict[str, Any], dict[str, list[Tried]]]:
    """Return the best settings of each method by validation macro-F1, and all trials.

    Each method's defaults are its first trial; the others are drawn from its grid without repetition. A method without
    a grid chooses on validation rows in its `fit`, or has nothing to choose.

    Args:
        methods: registry entries by name.
        rows: the fold.
        budget: trials per method, at least 1.
        runner: runs the trials.
    """
    plans = {name: candidates(method, budget, rows.seed) for name, method in methods.items()}
    trials = [
        Trial(name, changed(methods[name].settings, change), rows, rows.seed)
        for name, changes in plans.items()
        for change in changes
    ]
    found = iter(runner.side_by_side("tune", score, trials, lambda trial: trial.method))
    chosen: dict[str, Any] = {}
    tried: dict[str, list[Tried]] = {}
    for name, changes in plans.items():
        scores = [next(found) for _ in changes]
        best = max(range(len(changes)), key=lambda i: -1.0 if scores[i] is None else float(scores[i]))  # type: ignore[arg-type]
        chosen[name] = changed(methods[name].settings, changes[best])
        tried[name] = [
            Tried(_named(methods[name], change), value, i == best)
            for i, (change, value) in enumerate(zip(changes, scores, strict=True))
        ]
    return chosen, tried


def candidates(method: Method, budget: int, seed: int) -> list[dict[str, Any]]:
    """Return the changes to try: no change, then up to `budget - 1` points of the grid in random order."""
    points = [dict(zip(method.grid, values, strict=True)) for values in itertools.product(*method.grid.values())]
    order = np.random.default_rng(seed).permutation(len(points))
    defaults = _named(method, {})
    others = [points[i] for i in order if points[i] != defaults]
    return [{}, *others[: budget - 1]]


def changed(settings: Any, changes: Mapping[str, Any]) -> Any:
    """Return the settings with values replaced under dotted names."""
    for name, value in changes.items():
        settings = _replaced(settings, name.split("."), value)
    return settings


def _replaced(settings: Any, path: Sequence[str], value: Any) -> Any:
    if len(path) > 1:
        value = _replaced(getattr(settings, path[0]), path[1:], value)
    return dataclasses.replace(settings, **{path[0]: value})


def _named(method: Method, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every setting in the grid after some changes."""
    return {name: changes.get(name, attrgetter(name)(method.settings)) for name in method.grid}
