"""A study that is stopped goes on where it was, to the same figures."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from nmcl.model.baselines.logistic import LogisticSettings
from nmcl.model.feature_table import FeatureTable
from nmcl.model.registry import MODELS
from nmcl.model.study.folds import fold
from nmcl.model.study.results import CompleterScores, Spread
from nmcl.model.study.runner import Finding, artifact_of, load_finding, save_finding
from nmcl.model.study.sections import HiddenBlocks
from nmcl.model.study.study import Section, StudySettings, study
from nmcl.model.study.trials import Outcome, Trial, run, score
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.completion import CompletionSettings, base
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.artifacts import Artifact
from nmcl.pipeline.storage.store import Store
from tests.model.conftest import CLASSES, quick, world

MEAN = CompletionSettings(method="mean")
SECTIONS: tuple[Section, ...] = ("modalities", "completion", "absence")


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    rows = world(120, 0)
    sound = rows.modalities["sound"].copy()
    sound[::8] = np.nan
    return FeatureTable({**rows.modalities, "sound": sound}, rows.label, CLASSES)


def outcome(table: FeatureTable, *, keep: bool) -> Outcome:
    return run(Trial("nmcl", quick(), fold(table, 0, MEAN), 0, keep))


@pytest.mark.parametrize("keep", [False, True])
def test_an_outcome_comes_back_as_it_was(table: FeatureTable, tmp_path: Path, keep: bool) -> None:
    store, found = Store(tmp_path), outcome(table, keep=keep)
    save_finding(store, Artifact("run", {"a": 1}), found)
    assert load_finding(store, Artifact("run", {"a": 2})) == ()
    (again,) = load_finding(store, Artifact("run", {"a": 1}))
    assert isinstance(again, Outcome)
    assert again.probability.tobytes() == found.probability.tobytes()
    assert again.per_modality.keys() == found.per_modality.keys()
    assert (again.method, again.seed, again.seconds) == (found.method, found.seed, found.seconds)
    assert (again.trained is None) == (found.trained is None)
    if again.trained and found.trained:
        assert again.trained.history == found.trained.history
        rows = fold(table, 0, MEAN).test
        decided = [t.predict(rows.modalities, rows.observed).probability for t in (again.trained, found.trained)]
        assert decided[0].tobytes() == decided[1].tobytes()


@pytest.mark.parametrize("found", [0.25, None, CompleterScores(0.5, {"a": None}, Spread(0.5, None, (0.5,)))])
def test_a_score_comes_back_as_it_was(tmp_path: Path, found: Finding) -> None:
    save_finding(Store(tmp_path), Artifact("score", {}), found)
    assert load_finding(Store(tmp_path), Artifact("score", {})) == (found,)


def test_what_is_damaged_counts_as_not_found(tmp_path: Path) -> None:
    store, artifact = Store(tmp_path), Artifact("score", {})
    save_finding(store, artifact, 0.25)
    (state,) = tmp_path.rglob("state.json")
    for content in ("{", "{}", '{"outcome": {}}', '{"scores": "high"}'):
        state.write_text(content)
        assert load_finding(store, artifact) == ()
    save_finding(store, artifact, 0.5)
    assert load_finding(store, artifact) == (0.5,)


def test_rows_decide_what_is_asked(table: FeatureTable) -> None:
    first, again, other = (fold(table, seed, MEAN) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    changed = {name: block + (name == "sound") for name, block in table.modalities.items()}
    assert fold(replace(table, modalities=changed), 0, MEAN).digest != first.digest


def test_another_version_of_the_completers_is_another_finding(
    table: FeatureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = HiddenBlocks(fold(table, 0, MEAN), 0.5, "ridge", MEAN)
    before = item.recipe
    monkeypatch.setattr(base, "CODE_VERSION", base.CODE_VERSION + 1)
    assert item.recipe != before


class Stopped(Exception):
    """By the user."""


def stop_at(n_done: int) -> Progress:
    """Stops a study after so many trainings."""

    def stop(stage: str, done: int, total: int, note: str = "") -> None:
        if (stage, done) == ("methods", n_done):
            raise Stopped

    return stop


def test_a_study_goes_on_where_it_was(table: FeatureTable, tmp_path: Path) -> None:
    models = {**MODELS, "nmcl": replace(MODELS["nmcl"], settings=quick())}
    settings = StudySettings(
        ("logistic", "nmcl", "majority"), seeds=2, jobs=1, skip=("modalities", "completion", "absence")
    )
    whole = study(table, settings, models)
    reports: list[tuple[str, int]] = []

    def listen(stage: str, done: int, total: int, note: str = "") -> None:
        reports.append((stage, done))

    for n_done in (3, 5):
        with pytest.raises(Stopped):
            study(table, settings, models, stop_at(n_done), Store(tmp_path))
    data, predictions = study(table, settings, models, listen, Store(tmp_path))
    assert [done for stage, done in reports if stage == "methods"] == [5, 6]
    for name, expected in whole[1].items():
        assert predictions[name].tobytes() == expected.tobytes()
    assert [row.macro_f1 for row in data.methods] == [row.macro_f1 for row in whole[0].methods]


@dataclass(frozen=True)
class LaterSettings(LogisticSettings):
    added: Annotated[int, Reference(0)] = 0


def test_a_study_goes_on_after_an_upgrade_that_brings_a_setting(table: FeatureTable) -> None:
    rows = fold(table, 0, MEAN)

    def address(settings: LogisticSettings) -> str:
        return artifact_of(score, Trial("logistic", settings, rows, 0)).address

    before = address(LogisticSettings())
    assert address(LaterSettings()) == before
    assert before not in (address(LaterSettings(added=1)), address(LogisticSettings(max_iterations=9)))
