"""The training mean of each feature: what every other completer has to beat."""

from dataclasses import dataclass

import numpy as np

from nmcl.pipeline.completion.base import Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.filling import check_training, fill_in, learnt
from nmcl.pipeline.completion.scaling import fit_scaling
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State


@dataclass(frozen=True)
class MeanCompleter:
    """A missing block is the mean of those seen in training: zero, in standardised units."""

    settings: CompletionSettings

    def fit(self, blocks: Blocks, progress: Progress = silent) -> State:
        table = check_training(blocks)
        return learnt("mean", self.settings, table, fit_scaling(table, balance=self.settings.balance))

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        def decode(has: Pattern, z: np.ndarray, wanted: str) -> np.ndarray:
            return np.zeros((len(z), state.info["blocks"][wanted]))

        return fill_in(blocks, state, decode)
