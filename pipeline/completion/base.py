"""What a completer is, and the settings of all of them."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from annotated_types import Ge

from nmcl.pipeline.addressing import Reference, hashed
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import State

CODE_VERSION = 2
"""Raised whenever a change of code changes a completed value."""

Blocks = dict[str, np.ndarray]
"""Modality name -> (N, D_m) float32 features; a row is all NaN where the video lacks that modality."""

Pattern = tuple[str, ...]
"""Names of blocks, sorted: which modalities a row has."""

Method = Literal["auto", "als", "implicit", "mean", "ridge"]


@dataclass(frozen=True)
class CompletionSettings:
    """How missing modalities are filled in. Stored in the state of a completer."""

    method: Annotated[Method, Reference("auto")] = "auto"
    """A name of `COMPLETERS`; `auto` takes the one of the smallest held-out error."""
    rank: Annotated[int, Ge(1), Reference(100)] = 100
    """Latent features of the factorisations, clipped to what rows and columns allow. 100 is the paper's."""
    regularization: Annotated[Annotated[float, Ge(1e-6)] | None, Reference(None)] = None
    """Shrinkage per observation, in standardised units: the lambda of ALS-WR; the penalty of a ridge divided
    by its number of rows. None: chosen from the training rows. Below 1e-6 the systems may be singular."""
    sweeps: Annotated[int, Ge(1), Reference(50)] = 50
    """Most passes over the data of an alternating completer."""
    tolerance: Annotated[float, Ge(0), Reference(1e-4)] = 1e-4
    """`als` stops when a sweep lowers its objective by less than this share."""
    balance: Annotated[bool, Reference(False)] = False
    """Whether each block weighs the same, however many columns it has. Off, as with a tuned regularisation it
    was no better on blocks of like widths and 1 to 4 % worse on 2048, 200 and 100 columns."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0


class Completer(Protocol):
    """Learns from training rows how to fill in missing blocks, and fills them in for any rows."""

    def __init__(self, settings: CompletionSettings) -> None:
        """Only keeps the settings."""

    def fit(self, blocks: Blocks, progress: Progress = ...) -> State:
        """Learn from training rows, at least one.

        Raises:
            StoreError: a row is NaN in part, infinite values, blocks of unequal length, no rows or no blocks.
        """

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        """The same blocks without NaN, float32, in the units of the training features.

        Observed entries come back bit for bit. A filled row depends on that row and the state alone. A row
        without any block gets the training means; a block no training row had gets zeros. A block in which
        nothing is missing is returned as it is, not copied.

        Raises:
            ModelError: blocks other than those learnt, or of another width.
            StoreError: a row is NaN in part, infinite values, or blocks of unequal length.
        """


def address(settings: CompletionSettings) -> dict[str, Any]:
    """All that decides the result besides the rows, as JSON values."""
    return {"completion": hashed(settings), "code_version": CODE_VERSION}
