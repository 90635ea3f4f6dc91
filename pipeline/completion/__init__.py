"""Completion of missing modalities: fitted on training rows, applied to any rows.

Read `base` for the contract, `registry` for the completers and their selection, `held_out` for how they are
compared.
"""

from nmcl.pipeline.completion.base import Blocks, Completer, CompletionSettings, address
from nmcl.pipeline.completion.held_out import held_out_nrmse
from nmcl.pipeline.completion.registry import COMPLETERS, best, compare, complete, fit
from nmcl.pipeline.completion.table import empty_rows

__all__ = [
    "COMPLETERS",
    "Blocks",
    "Completer",
    "CompletionSettings",
    "address",
    "best",
    "compare",
    "complete",
    "empty_rows",
    "fit",
    "held_out_nrmse",
]
