"""Self-training: rows without a label join the training rows under the class that a first model predicts for them.

D.-H. Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML
workshop on challenges in representation learning, 2013. Here for any method, and with all rows from the first epoch.
"""

from typing import Any

import numpy as np

from nmcl.model.data import Dataset, joined
from nmcl.model.trained import Trained, fit
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent

ROUNDS = 1
"""Number of trainings after the first one, each with the predictions of the one before."""
LEAST_PROBABILITY = 0.5
"""Smallest probability of its class with which a row joins the training rows."""


def fit_with_unlabelled(
    name: str,
    train: Dataset,
    unlabelled: FeatureRows,
    validation: Dataset,
    classes: tuple[str, ...],
    settings: Any = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Trained:
    """Train a model of the registry on labelled and unlabelled rows.

    Args:
        unlabelled: Completed rows of the same modalities. See `nmcl.model.trained.fit` for the others.

    Raises:
        ModelError: In the cases of `nmcl.model.trained.fit`.
    """
    trained = fit(name, train, validation, classes, settings, seed, progress)
    for _ in range(ROUNDS):
        found = trained.predict(unlabelled.modalities, unlabelled.observed, unlabelled.terms).probability
        certain = found.max(axis=1) >= LEAST_PROBABILITY
        if not certain.any():
            break
        rows, label = unlabelled.take(certain), found.argmax(axis=1)[certain]
        more = Dataset(rows.modalities, rows.observed, np.asarray(label), terms=rows.terms)
        trained = fit(name, joined(train, more), validation, classes, settings, seed, progress)
    return trained
