"""Trials of a study: train one method once and predict the test rows."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmcl.model.evaluate import f1
from nmcl.model.self_training import fit_with_unlabelled
from nmcl.model.study.folds import Fold
from nmcl.model.trained import Trained, fit
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.errors import ModelError


@dataclass(frozen=True)
class Trial:
    """Work item: one method on one fold."""

    method: str
    settings: Any
    fold: Fold
    seed: int
    keep: bool = False
    """Whether the outcome contains the trained model."""

    @property
    def recipe(self) -> dict[str, Any]:
        """See `runner.Item`."""
        settings = hashed(self.settings)
        return {
            "method": self.method,
            "settings": settings,
            "rows": self.fold.digest,
            "seed": self.seed,
            "keep": self.keep,
        }


@dataclass(frozen=True)
class Outcome:
    """Result of a trial."""

    method: str
    seed: int
    label: np.ndarray
    """Labels of the test rows, shape (N,)."""
    probability: np.ndarray
    """Probabilities of the test rows, shape (N, K), float32."""
    per_modality: dict[str, np.ndarray]
    """Probabilities of the test rows by branch."""
    seconds: float
    """Training time."""
    n_parameters: int
    """Number of values in the model's checkpoint, without the standardiser."""
    trained: Trained | None
    """The trained model, if the trial asks to keep it."""


def run(trial: Trial) -> Outcome:
    """Run a trial: train on training and unlabelled rows, choose on validation rows, predict test rows.

    Raises:
        ModelError: in the cases of `nmcl.model.trained.fit`.
    """
    rows = trial.fold
    start = time.perf_counter()
    chosen = (rows.validation, rows.classes, trial.settings, trial.seed)
    if rows.unlabelled is None:
        trained = fit(trial.method, rows.train, *chosen)
    else:
        trained = fit_with_unlabelled(trial.method, rows.train, rows.unlabelled, *chosen)
    seconds = time.perf_counter() - start
    found = trained.predict(rows.test.modalities, rows.test.observed, rows.test.terms)
    return Outcome(
        method=trial.method,
        seed=trial.seed,
        label=rows.test.label,
        probability=found.probability,
        per_modality=found.per_modality,
        seconds=seconds,
        n_parameters=sum(value.numel() for value in trained.network.state_dict().values()),
        trained=trained if trial.keep else None,
    )


def score(trial: Trial) -> float | None:
    """Return the validation macro-F1 of a trial, without using test rows; None if training diverges."""
    rows = trial.fold
    try:
        trained = fit(trial.method, rows.train, rows.validation, rows.classes, trial.settings, trial.seed)
    except ModelError as error:
        if "loss is" not in str(error):
            raise
        return None
    held_out, chosen = trained.held_out, rows.validation
    if held_out is None:
        held_out = trained.predict(chosen.modalities, chosen.observed, chosen.terms).probability
    return f1(chosen.label, held_out.argmax(axis=1))[1]
