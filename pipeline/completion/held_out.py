"""Held-out error of completers: whole blocks of training rows are hidden, filled in, and compared.

Whole blocks are hidden because single entries would leak through the modality's other columns.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nmcl.pipeline.completion.base import Blocks, Completer
from nmcl.pipeline.completion.filling import check_training, present
from nmcl.pipeline.completion.scaling import Scaling, fit_scaling
from nmcl.pipeline.completion.table import check
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent

MAX_ROWS = 20_000
"""Maximum number of rows used; more are sampled. 190 MB at the paper's 2,348 columns."""
LEAST_SHARE = 0.1
"""Minimum share of the complete rows that lose each modality, so that a rarely missing one is measured."""
MOST_SHARE = 0.5
"""Maximum share of the complete rows that lose a modality, all modalities together."""


def held_out_nrmse(
    blocks: Blocks,
    completers: Mapping[str, Completer],
    seed: int,
    progress: Progress = silent,
    max_rows: int = MAX_ROWS,
) -> dict[str, Any]:
    """Return the error of each completer on hidden blocks, fitted to the remaining training data.

    Each hidden row loses one block, and the blocks that are always missing with it. NRMSE = ||Xh - X||_F / ||X||_F
    over the hidden entries in standardised units: the mean completer is at about 1. `overall` is the root mean square
    over modalities, weighted by how often each is naturally missing (plus one row each): the expected error of a
    completed block.

    Returns:
        JSON values: `n_rows` in total, `n_rows_used`, `seed`, `hidden` rows and `weight` per modality, and
        `nrmse` {completer: {"overall", "per_modality": {modality: ...}}}; None if nothing could be hidden
        or the hidden values do not vary.

    Raises:
        StoreError: As `Completer.fit`.
    """
    full = check_training(blocks)
    rng = np.random.default_rng(seed)
    table = full.sample(max_rows, rng)
    hidden = _choose_hidden(table, rng)
    left = table.take(np.arange(len(table))).modalities
    for name, rows in hidden.items():
        left[name][rows] = np.nan
    missing = {name: len(full) - n for name, n in full.n_observed.items()}
    weight = {name: (missing[name] + 1) / (sum(missing.values()) + len(missing)) for name in missing}
    scores: dict[str, Any] = {}
    for done, (method, completer) in enumerate(completers.items()):
        progress("completion: held-out blocks", done, len(completers), method)
        scores[method] = _score(table, left, hidden, weight, completer)
    progress("completion: held-out blocks", len(completers), len(completers))
    return {
        "seed": seed,
        "n_rows": len(full),
        "n_rows_used": len(table),
        "hidden": {name: len(rows) for name, rows in hidden.items()},
        "weight": weight,
        "nrmse": scores,
    }


def _choose_hidden(table: FeatureRows, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return rows that lose each block, as often as it is naturally missing, but at least LEAST_SHARE.

    Blocks that lack the same rows, such as two feature sets of one text, lose the same rows; others lose disjoint ones.
    """
    names = present(table)
    together: dict[str | bytes, list[str]] = {}
    for name in names:
        observed = table.observed[name]
        together.setdefault(name if observed.all() else observed.tobytes(), []).append(name)
    if len(together) < 2:
        return {name: np.empty(0, dtype=np.intp) for name in table.modalities}
    complete = rng.permutation(np.flatnonzero(np.all([table.observed[name] for name in names], axis=0)))
    share = {key: max(1 - table.n_observed[group[0]] / len(table), LEAST_SHARE) for key, group in together.items()}
    shrink = min(1.0, MOST_SHARE / sum(share.values()))
    hidden, taken = {name: np.empty(0, dtype=np.intp) for name in table.modalities}, 0
    for key, group in together.items():
        n = max(1, round(len(complete) * share[key] * shrink))
        n = min(n, len(complete) // 2 - taken)
        hidden |= dict.fromkeys(group, np.sort(complete[taken : taken + n]))
        taken += n
    return hidden


def nrmse(scaling: Scaling, name: str, truth: np.ndarray, filled: np.ndarray) -> float | None:
    """Return ||filled - truth||_F / ||truth||_F of one modality in standardised units; None if truth is 0.

    Args:
        scaling: The scaling of the training rows.
        truth, filled: Vectors of shape (n, D_m), in original units.
    """
    expected = scaling.standardise(name, truth).astype(np.float64)
    norm = float(np.linalg.norm(expected))
    return float(np.linalg.norm(scaling.standardise(name, filled) - expected)) / norm if norm > 0 else None


def _score(
    table: FeatureRows, left: Blocks, hidden: dict[str, np.ndarray], weight: dict[str, float], completer: Completer
) -> dict[str, Any]:
    """Return NRMSE per modality and overall of one completer fitted to the remaining data."""
    if not any(len(rows) for rows in hidden.values()):
        return {"overall": None, "per_modality": dict.fromkeys(hidden)}
    state = completer.fit(left)
    scaling = fit_scaling(check(left), balance=False)
    errors: dict[str, float | None] = dict.fromkeys(hidden)
    for name, rows in hidden.items():
        filled = completer.complete({m: block[rows] for m, block in left.items()}, state)[name]
        errors[name] = nrmse(scaling, name, table.modalities[name][rows], filled)
    measured = {name: error for name, error in errors.items() if error is not None}
    if not measured:
        return {"overall": None, "per_modality": errors}
    total = sum(weight[name] for name in measured)
    overall = float(np.sqrt(sum(weight[name] * error**2 for name, error in measured.items()) / total))
    return {"overall": overall, "per_modality": errors}
