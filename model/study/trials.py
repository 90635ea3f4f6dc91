"""Training one method once."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmcl.model.base import Epoch, Scores
from nmcl.model.evaluate import f1
from nmcl.model.study.folds import Fold
from nmcl.model.trained import Trained, fit
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
    def identity(self) -> tuple[object, ...]:
        """See `runner.Item`."""
        return self.method, self.settings, self.fold.digest, self.seed, self.keep


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
    validation: Scores
    seconds: float
    """Of training."""
    n_parameters: int
    """Numbers in the model's file besides the standardiser."""
    history: tuple[Epoch, ...]
    """Empty for a model that is not learnt by epochs."""
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
        validation=validated(trained, rows),
        seconds=seconds,
        n_parameters=sum(value.numel() for value in trained.network.state_dict().values()),
        history=trained.history,
        trained=trained if trial.keep else None,
    )


def validated(trained: Trained, rows: Fold) -> Scores:
    """How good a model is on the validation rows."""
    predicted = trained.predict(rows.validation.modalities, rows.validation.observed).probability.argmax(axis=1)
    micro, macro = f1(rows.validation.label, predicted)
    return Scores(micro, macro, float(np.bincount(predicted).max() / len(predicted)))


def score(trial: Trial) -> float | None:
    """Validation macro-F1 of a trial; None where its training diverges. Test rows are not looked at."""
    rows = trial.fold
    try:
        trained = fit(trial.method, rows.train, rows.validation, rows.venues, trial.settings, trial.seed)
    except ModelError as error:
        if "loss is" not in str(error):
            raise
        return None
    return validated(trained, rows).macro_f1
