"""The mean completer."""

from collections.abc import Callable

import numpy as np

from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.completion.mean import MeanCompleter

Blocks = dict[str, np.ndarray]


def test_missing_blocks_are_the_training_means(make_world: Callable[..., tuple[Blocks, Blocks]]) -> None:
    _, blocks = make_world()
    completer = MeanCompleter(CompletionSettings())
    out = completer.complete(blocks, completer.fit(blocks))
    for name, block in blocks.items():
        missing = np.isnan(block[:, 0])
        mean = np.nanmean(block.astype(np.float64), axis=0)
        np.testing.assert_allclose(out[name][missing], np.tile(mean, (missing.sum(), 1)), rtol=1e-6)
