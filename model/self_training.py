"""Self-training: rows without a label join the training rows under the class that a first model predicts for them.

D.-H. Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML
workshop on challenges in representation learning, 2013. Here for any method, and with all rows from the first epoch.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from nmcl.model.data import Dataset, joined
from nmcl.model.trained import Trained, fit
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent

SHARE = 0.5
"""Share of the rows of each predicted class that join the training rows, the most probable first.

A smallest probability would select nearly all rows of one class and none of another: it depends on the number of
classes and on the calibration of the first model. See DEVIATIONS.md for what was tried.
"""


def fit_with_unlabelled(
    name: str,
    train: Dataset,
    unlabelled: FeatureRows,
    validation: Dataset,
    classes: tuple[str, ...],
    settings: Any = None,
    seed: int = 0,
    progress: Progress = silent,
    start: Trained | None = None,
) -> Trained:
    """Train a model of the registry on labelled and unlabelled rows.

    Args:
        unlabelled: Completed rows of the same modalities. See `nmcl.model.trained.fit` for the others.

    Returns:
        The model. Its diagnostics have the numbers of unlabelled rows, and of those that joined, in `self_training`.

    Raises:
        ModelError: In the cases of `nmcl.model.trained.fit`.
    """
    trained = fit(name, train, validation, classes, settings, seed, progress, start)
    joining = np.zeros(len(unlabelled), bool)
    if len(unlabelled):
        found = trained.predict(unlabelled.modalities, unlabelled.observed, unlabelled.terms).probability
        joining = most_probable(found)
        rows = unlabelled.take(joining)
        more = Dataset(
            rows.modalities,
            rows.observed,
            found.argmax(axis=1)[joining],
            terms=rows.terms,
            is_predicted=np.ones(len(rows), bool),
        )
        trained = fit(name, joined(train, more), validation, classes, settings, seed, progress, start)
    numbers = {"unlabelled": len(unlabelled), "joined": int(joining.sum())}
    return replace(trained, diagnostics={**trained.diagnostics, "self_training": numbers})


def most_probable(probability: np.ndarray) -> np.ndarray:
    """Return the more probable `SHARE` of the rows of each predicted class, at least one: shape (N,), bool.

    Args:
        probability: Shape (N, K).
    """
    predicted, chosen = probability.argmax(axis=1), np.zeros(len(probability), bool)
    for label in np.unique(predicted):
        rows = np.flatnonzero(predicted == label)
        order = np.argsort(-probability[rows, label], kind="stable")
        chosen[rows[order[: math.ceil(SHARE * len(rows))]]] = True
    return chosen
