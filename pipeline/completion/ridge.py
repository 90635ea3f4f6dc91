"""Regression of each missing block on the observed blocks: one ridge per missingness pattern and target."""

from dataclasses import dataclass

import numpy as np

from nmcl.pipeline.completion.base import Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.filling import check_training, fill_in, fitted_state, present
from nmcl.pipeline.completion.linear import Lines, Moments, columns, fit_line, lines_of, moments, patterns_to_learn
from nmcl.pipeline.completion.scaling import Scaling, fit_scaling
from nmcl.pipeline.completion.table import walk
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State


@dataclass(frozen=True)
class RidgeCompleter:
    """Linear prediction from the other blocks. One pass over the data, then D x D matrices only."""

    settings: CompletionSettings

    def fit(self, blocks: Blocks, progress: Progress = silent) -> State:
        table = check_training(blocks)
        scaling = fit_scaling(table, balance=self.settings.balance)
        names = present(table)
        seen = _moments_by_pattern(table, scaling)
        sources = patterns_to_learn(names, set(seen))
        pairs = [(source, target) for source in sources for target in names if target not in source]
        lines = Lines()
        for done, (source, target) in enumerate(pairs):
            progress("completion: ridge", done, len(pairs), f"{'+'.join(source)} to {target}")
            support = _support((*source, target), seen, table.dims)
            if support is not None:
                width = sum(table.dims[name] for name in source)
                lines.add(source, target, *fit_line(support, width, self.settings.regularization))
        return fitted_state("ridge", self.settings, table, scaling, lines.arrays, {"lines": lines.listed})

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        lines = lines_of(state)
        dims: dict[str, int] = state.info["blocks"]

        def decode(has: Pattern, z: np.ndarray, wanted: str) -> np.ndarray:
            best = lines.best(has, wanted)
            if best is None:
                return np.zeros((len(z), dims[wanted]))
            source, line = best
            return line(z[:, columns(source, has, dims)])

        return fill_in(blocks, state, decode)


def _moments_by_pattern(table: FeatureRows, scaling: Scaling) -> dict[Pattern, Moments]:
    """Return the moments of the observed columns of the rows of each pattern, in one pass."""
    sums: dict[Pattern, Moments] = {}
    for pattern, rows in walk(table):
        if pattern:
            chunk = moments(scaling.read(table, pattern, rows))
            sums[pattern] = sums[pattern] + chunk if pattern in sums else chunk
    return sums


def _support(wanted: Pattern, seen: dict[Pattern, Moments], dims: dict[str, int]) -> Moments | None:
    """Return the moments of the wanted blocks, in that order, over all rows that have every one of them."""
    total: Moments | None = None
    for pattern, part in seen.items():
        if set(wanted) <= set(pattern):
            own = part.of(columns(wanted, pattern, dims))
            total = own if total is None else total + own
    return total
