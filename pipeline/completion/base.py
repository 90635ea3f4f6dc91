"""Completer protocol and the settings shared by all completers."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from annotated_types import Ge

from nmcl.pipeline.addressing import Reference, hashed
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import State

CODE_VERSION = 4
"""Version of the code; raise it whenever a change of code changes a completed value."""

Blocks = dict[str, np.ndarray]
"""Mapping from modality name to (N, D_m) float32 features; a row is all NaN if the video lacks that modality."""

Pattern = tuple[str, ...]
"""Sorted names of the blocks that a row has."""

Method = Literal["auto", "als", "implicit", "mean", "ridge"]


@dataclass(frozen=True)
class CompletionSettings:
    """Frozen settings of the completion of missing modalities, stored in the state of a completer."""

    method: Annotated[Method, Reference("auto")] = "auto"
    """Completer: `als`, `implicit`, `ridge` or `mean`. `auto` selects the one with the smallest held-out error."""
    rank: Annotated[int, Ge(1), Reference(100)] = 100
    """Rank of the factorisations, limited to what rows and columns allow. 100 is the paper's."""
    regularization: Annotated[Annotated[float, Ge(1e-6)] | None, Reference(None)] = None
    """Shrinkage per observation, in standardised units: the lambda of ALS-WR; the penalty of a ridge divided
    by its number of rows. None: chosen from the training rows. Below 1e-6 the systems may be singular."""
    sweeps: Annotated[int, Ge(1), Reference(50)] = 50
    """Maximum number of passes over the data of an alternating completer."""
    tolerance: Annotated[float, Ge(0), Reference(1e-4)] = 1e-4
    """`als` stops when a sweep lowers its objective by less than this share."""
    balance: Annotated[bool, Reference(False)] = False
    """Whether each block has the same weight, however many columns it has. Off by default: with a tuned regularisation
    it was no better on blocks of similar widths and 1 to 4 % worse on 2048, 200 and 100 columns."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of hidden blocks and initialisation."""


class Completer(Protocol):
    """Protocol of models fitted on training rows that fill in missing blocks of any rows."""

    def __init__(self, settings: CompletionSettings) -> None:
        """Store the settings."""

    def fit(self, blocks: Blocks, progress: Progress = ...) -> State:
        """Fit to training rows, at least one.

        Raises:
            StoreError: If a row is NaN in part, values are infinite, blocks have unequal lengths, or there are no rows
                or no blocks.
        """

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        """Return the same blocks without NaN, float32, in the units of the training features.

        Observed entries are returned bit for bit. A filled row depends on that row and the state alone. A row without
        any block gets the training means; a block that no training row had gets zeros. A block with nothing missing is
        returned as it is, not copied.

        Raises:
            ModelError: If the blocks or their widths differ from those of the fit.
            StoreError: If a row is NaN in part, values are infinite, or blocks have unequal lengths.
        """


def address(settings: CompletionSettings) -> dict[str, Any]:
    """Return everything that decides the result besides the rows, as JSON values."""
    return {"completion": hashed(settings), "code_version": CODE_VERSION}
