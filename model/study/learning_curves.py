"""Learning curves: every method with a part of the training labels, with and without the other rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nmcl.model.study.folds import Fold
from nmcl.model.study.runner import Runner
from nmcl.model.study.trials import Outcome, Trial, run
from nmcl.pipeline.features import FeatureRows

SHARES = (0.05, 0.1, 0.25, 0.5)
"""Shares of the training labels that are kept, besides all."""


@dataclass(frozen=True)
class Point:
    """Outcomes of one method with some share of the training labels, one per fold."""

    method: str
    share: float
    n_labels: int
    """Number of labels, a mean over the folds."""
    outcomes: Sequence[Outcome]
    """Trained on the labelled rows alone."""
    with_unlabelled: Sequence[Outcome] = ()
    """Trained on the other training rows, too, without their labels; empty if there are none."""


def study_learning_curves(
    folds: Sequence[Fold], chosen: Mapping[str, Any], outcomes: Mapping[str, Sequence[Outcome]], runner: Runner
) -> list[Point]:
    """Run all methods with fewer labels; validation and test rows keep theirs.

    Labels are hidden at random by class, another draw for every fold; a draw holds all smaller ones. Completers and
    text sets need no labels: they stay those of all training rows.

    Args:
        folds: The folds.
        chosen: The settings of each method.
        outcomes: The outcomes with all labels, one per fold.
        runner: Runs the trials.
    """
    n = len(folds)
    parts = {share: [with_labels(whole, share) for whole in folds] for share in SHARES}
    pairs = [(name, share) for name in chosen for share in SHARES]
    trials = [
        Trial(name, chosen[name], part if is_with else replace(part, unlabelled=None), part.seed)
        for name, share in pairs
        for is_with in (False, True)
        for part in parts[share]
    ]
    found = runner.side_by_side("learning curves", run, trials, lambda t: f"{t.method}, {len(t.fold.train)} labels")
    points = [Point(name, 1.0, _n_labels(folds), outcomes[name]) for name in chosen]
    for i, (name, share) in enumerate(pairs):
        both = found[2 * n * i : 2 * n * (i + 1)]
        points.append(Point(name, share, _n_labels(parts[share]), both[:n], both[n:]))
    order = list(chosen)
    return sorted(points, key=lambda point: (order.index(point.method), point.share))


def _n_labels(folds: Sequence[Fold]) -> int:
    return round(float(np.mean([len(rows.train) for rows in folds])))


def with_labels(whole: Fold, share: float) -> Fold:
    """Return a fold with this share of the labels of each class, at least one; the other rows are unlabelled."""
    random = np.random.default_rng(whole.seed)
    kept = np.zeros(len(whole.train), bool)
    for label in np.unique(whole.train.label):
        of_class = random.permutation(np.flatnonzero(whole.train.label == label))
        kept[of_class[: max(1, round(share * len(of_class)))]] = True
    unlabelled = FeatureRows.take(whole.train, ~kept)  # without the labels
    return replace(whole, train=whole.train.take(kept), unlabelled=unlabelled if len(unlabelled) else None)
