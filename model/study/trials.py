"""Training one method once."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmcl.model.evaluate import f1
from nmcl.model.study.folds import Fold
from nmcl.model.trained import Trained, fit
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.errors import ModelError


@dataclass(frozen=True)
class Trial:
    """One method on one fold."""

    method: str
    settings: Any
    fold: Fold
    seed: int
    keep: bool = False
    """Whether the outcome holds the trained model."""

    @property
    def recipe(self) -> dict[str, Any]:
        """See `findings.Item`."""
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
    """What a trial gave."""

    method: str
    seed: int
    label: np.ndarray
    """Of the test rows, shape (N,)."""
    probability: np.ndarray
    """Of the test rows, shape (N, K), float32."""
    per_modality: dict[str, np.ndarray]
    """The same by branch."""
    seconds: float
    """Of training."""
    n_parameters: int
    """Numbers in the model's file besides the standardiser."""
    trained: Trained | None
    """Where the trial asked for it."""


def run(trial: Trial) -> Outcome:
    """Train on training rows, choose on validation rows, decide test rows.

    Raises:
        ModelError: as `nmcl.model.trained.fit`.
    """
    rows = trial.fold
    start = time.perf_counter()
    trained = fit(trial.method, rows.train, rows.validation, rows.venues, trial.settings, trial.seed)
    seconds = time.perf_counter() - start
    found = trained.predict(rows.test.modalities, rows.test.observed)
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
    """Validation macro-F1 of a trial; None where its training diverges. Test rows are not looked at."""
    rows = trial.fold
    try:
        trained = fit(trial.method, rows.train, rows.validation, rows.venues, trial.settings, trial.seed)
    except ModelError as error:
        if "loss is" not in str(error):
            raise
        return None
    predicted = trained.predict(rows.validation.modalities, rows.validation.observed).probability.argmax(axis=1)
    return f1(rows.validation.label, predicted)[1]
