"""Training mean of each feature: the baseline of all other completers."""

from dataclasses import dataclass

import numpy as np

from nmcl.pipeline.completion.base import Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.filling import check_training, fill_in, fitted_state
from nmcl.pipeline.completion.scaling import fit_scaling
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State


@dataclass(frozen=True)
class MeanCompleter:
    """Completer that fills a missing block with its training mean: zero, in standardised units."""

    settings: CompletionSettings

    def fit(self, blocks: Blocks, progress: Progress = silent) -> State:
        table = check_training(blocks)
        return fitted_state("mean", self.settings, table, fit_scaling(table, balance=self.settings.balance))

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        def decode(has: Pattern, z: np.ndarray, wanted: str) -> np.ndarray:
            return np.zeros((len(z), state.info["blocks"][wanted]))

        return fill_in(blocks, state, decode)
