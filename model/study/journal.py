"""What a study has found so far, so that one that was killed goes on where it was.

A folder for each finding, whole or not there: arrays, the model where it is kept, and JSON for the rest. Loading runs
no code.
"""

import json
import shutil
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from pydantic import TypeAdapter, ValidationError

from nmcl.model import checkpoint
from nmcl.model.base import CODE_VERSION, Epoch, Scores
from nmcl.model.study.results import CompleterScores
from nmcl.model.study.trials import Outcome
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.store import writing

ARRAYS, CARD, MODEL = "arrays.npz", "card.json", "model"
BRANCH = "per_modality/"

Finding = Outcome | CompleterScores | float | None


@dataclass(frozen=True)
class OutcomeCard:
    """An outcome without its arrays and its model."""

    method: str
    seed: int
    validation: Scores
    seconds: float
    n_parameters: int
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Card:
    """The content of `card.json`: one of these, or none for a training that diverged."""

    outcome: OutcomeCard | None = None
    completion: CompleterScores | None = None
    score: float | None = None


_CARD = TypeAdapter(Card)


class Journal:
    """Findings by what was asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, asked: tuple[object, ...]) -> tuple[Finding, ...]:
        """The finding, or nothing where it was not kept or is damaged."""
        try:
            return (_read(self._folder / _key(asked)),)
        except (OSError, ValueError, KeyError, BadZipFile, ValidationError, ModelError):
            return ()

    def keep(self, asked: tuple[object, ...], finding: Finding) -> None:
        """Write it down, whole or not at all.

        Raises:
            StoreError: there is no room, or no permission.
        """
        folder = self._folder / _key(asked)
        partial = folder.with_suffix(".partial")
        with writing(str(self._folder)):
            for old in (partial, folder):
                shutil.rmtree(old, ignore_errors=True)
            partial.mkdir(parents=True)
            _write(partial, finding)
            partial.rename(folder)

    def clear(self) -> None:
        """The study is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _key(asked: tuple[object, ...]) -> str:
    """Of settings, only what differs from the references, as in addresses."""
    return digest([CODE_VERSION, *(hashed(part) if is_dataclass(part) else part for part in asked)], 32)


def _write(folder: Path, finding: Finding) -> None:
    if isinstance(finding, Outcome):
        branches = {BRANCH + name: probability for name, probability in finding.per_modality.items()}
        arrays = {"label": finding.label, "probability": finding.probability, **branches}
        np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]
        if finding.trained:
            checkpoint.save(finding.trained, folder / MODEL)
        told = (getattr(finding, name) for name in OutcomeCard.__dataclass_fields__)
        card = Card(outcome=OutcomeCard(*told))
    elif isinstance(finding, CompleterScores):
        card = Card(completion=finding)
    else:
        card = Card(score=finding)
    (folder / CARD).write_text(json.dumps(asdict(card), allow_nan=False), encoding="utf-8")


def _read(folder: Path) -> Finding:
    card = _CARD.validate_json((folder / CARD).read_bytes())
    if card.outcome is None:
        return card.completion or card.score
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        branches = {name.removeprefix(BRANCH): arrays[name] for name in arrays if name.startswith(BRANCH)}
        label, probability = arrays["label"], arrays["probability"]
    trained = checkpoint.load(folder / MODEL) if (folder / MODEL).exists() else None
    told = {name: getattr(card.outcome, name) for name in OutcomeCard.__dataclass_fields__}
    return Outcome(label=label, probability=probability, per_modality=branches, trained=trained, **told)
