"""Paired tests of two studies on the same test rows, such as of two choices of feature sets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmcl.model.evaluate import f1, macro_f1
from nmcl.model.feature_table import read_arrays
from nmcl.model.statistics import bootstrap, paired_t_test
from nmcl.pipeline.errors import StoreError

EXPECTED = "Run `nmcl reproduce` again to write it."


@dataclass(frozen=True)
class PairedRow:
    """One method in two studies; scores are means over the seeds, and gains are the second minus the first."""

    method: str
    micro_f1: float
    other_micro_f1: float
    macro_f1: float
    other_macro_f1: float
    interval: tuple[float, float]
    """95 % bootstrap interval of the gain in macro-F1, over the test rows."""
    rows_p_value: float | None
    """P-value of a paired t-test on each test row's share of right predictions; None if they are the same."""
    splits_p_value: float | None
    """P-value of a paired t-test on the macro-F1 of each split, corrected for their overlap; None with one split,
    or without any variance."""


def compare_studies(first: Path, second: Path) -> list[PairedRow]:
    """Return the methods that are in both studies, in the order of the first.

    Args:
        first, second: folders of finished studies of the same rows, with the same seeds and splits.

    Raises:
        StoreError: a folder has no finished study, the test rows are not the same, or no method is in both.
    """
    predicted, too = _predictions(first), _predictions(second)
    rows = {name: array for name, array in predicted.items() if name.startswith(("label/", "row/"))}
    of_second = {name: array for name, array in too.items() if name.startswith(("label/", "row/"))}
    same = rows.keys() == of_second.keys()
    if not same or not all(np.array_equal(array, of_second[name]) for name, array in rows.items()):
        raise StoreError(
            f"{first} and {second} have different test rows; expected two studies of the same file, with the same "
            "--seeds and the same split."
        )
    seeds = [name.removeprefix("row/") for name in rows if name.startswith("row/")]
    if not seeds:
        raise StoreError(f"{first} was written by an earlier version, without the numbers of its test rows. {EXPECTED}")
    names = dict.fromkeys(name.rpartition("/")[0] for name in predicted if name in too and name not in rows)
    if not names:
        raise StoreError(f"{first} and {second} have no method in common; give both the same --methods.")
    n_splits = len({rows[f"row/{seed}"].tobytes() for seed in seeds})
    overlap = _overlap(first) if n_splits > 1 else 0.0
    return [_paired(name, seeds, predicted, too, n_splits, overlap) for name in names]


def _paired(
    name: str,
    seeds: list[str],
    predicted: Mapping[str, np.ndarray],
    too: Mapping[str, np.ndarray],
    n_splits: int,
    overlap: float,
) -> PairedRow:
    own, other = (
        np.array([f1(p[f"label/{s}"], p[f"{name}/{s}"].argmax(axis=1)) for s in seeds]) for p in (predicted, too)
    )
    label, row = (np.concatenate([predicted[f"{what}/{seed}"] for seed in seeds]) for what in ("label", "row"))
    chosen, chosen_too = (np.concatenate([p[f"{name}/{s}"].argmax(axis=1) for s in seeds]) for p in (predicted, too))
    _, place, count = np.unique(row, return_inverse=True, return_counts=True)
    right, right_too = (np.bincount(place, weights=choice == label) / count for choice in (chosen, chosen_too))
    return PairedRow(
        method=name,
        micro_f1=float(own[:, 0].mean()),
        other_micro_f1=float(other[:, 0].mean()),
        macro_f1=float(own[:, 1].mean()),
        other_macro_f1=float(other[:, 1].mean()),
        interval=bootstrap(macro_f1, label, chosen_too, chosen, row),
        rows_p_value=paired_t_test(right_too, right),
        splits_p_value=paired_t_test(other[:, 1], own[:, 1], overlap) if n_splits > 1 else None,
    )


def _predictions(study: Path) -> dict[str, np.ndarray]:
    path = study / "predictions.npz"
    if not path.exists():
        raise StoreError(f"There is no file {path}. Give the --out folder of a finished `nmcl reproduce`.")
    return read_arrays(path, EXPECTED)


def _overlap(study: Path) -> float:
    """Return the ratio of test to training rows."""
    path = study / "results.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return float(rows["test"] / rows["train"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise StoreError(f"{path} cannot be read as the results of a study: {error!r}. {EXPECTED}") from error
