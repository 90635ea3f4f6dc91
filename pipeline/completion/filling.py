"""Code shared by all completers: building a state, and filling decoded blocks into missing rows."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from nmcl.pipeline.completion.base import CODE_VERSION, Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.scaling import Scaling, scaling_of
from nmcl.pipeline.completion.table import check, walk
from nmcl.pipeline.errors import ModelError, StoreError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.records import State

Decode = Callable[[Pattern, np.ndarray, str], np.ndarray]
"""Function from (blocks a row has, their working values (n, D) float64, target block) to its working values (n,
D_m)."""


def check_training(blocks: Blocks) -> FeatureRows:
    """Check training blocks like `check`, and require at least one row.

    Raises:
        StoreError: As `check`, or if there are no rows.
    """
    table = check(blocks)
    if len(table) == 0:
        raise StoreError("There are no training rows to fit the completer on: the training split is empty.")
    return table


def present(table: FeatureRows) -> Pattern:
    """Return the blocks that at least one row has."""
    return tuple(name for name, n in table.n_observed.items() if n)


def fitted_state(
    method: str,
    settings: CompletionSettings,
    table: FeatureRows,
    scaling: Scaling,
    arrays: dict[str, np.ndarray] | None = None,
    info: dict[str, Any] | None = None,
) -> State:
    """Return the state of a fitted completer: scaling, observed blocks, and the completer's own arrays and info."""
    seen = {
        "method": method,
        "code": CODE_VERSION,
        "settings": asdict(settings),
        "blocks": table.dims,
        "weight": scaling.weight,
        "n_rows": len(table),
        "n_observed": table.n_observed,
        "n_empty_rows": int((~table.usable).sum()),
        "never_observed": [name for name, n in table.n_observed.items() if n == 0],
    }
    return State(scaling.arrays() | (arrays or {}), seen | (info or {}))


def fill_in(blocks: Blocks, state: State, decode: Decode) -> Blocks:
    """Fill in decoded values where a row lacks a block and leave everything else unchanged.

    Raises:
        ModelError, StoreError: As `Completer.complete`.
    """
    table = check(blocks)
    if table.dims != state.info["blocks"]:
        raise ModelError(
            f"The rows have modalities {table.dims} (columns each), but the completer was fitted on "
            f"{state.info['blocks']}. Extract the features with the settings used in training, or fit again."
        )
    scaling = scaling_of(state)
    never: list[str] = state.info["never_observed"]
    whole = {name: mask.all() for name, mask in table.observed.items()}
    out = {name: block if whole[name] else block.copy() for name, block in table.modalities.items()}
    for pattern, rows in walk(table):
        missing = [name for name in table.modalities if name not in pattern]
        usable = tuple(name for name in pattern if name not in never)
        if not missing:
            continue
        z = scaling.read(table, usable, rows).astype(np.float64)
        for name in missing:
            known = usable and name not in never
            decoded = decode(usable, z, name) if known else np.zeros((len(rows), table.dims[name]))
            out[name][rows] = scaling.restore(name, decoded)
    return out
