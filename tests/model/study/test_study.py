"""A whole study of a small world: every section is there, numbers agree with each other, and nothing leaks."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from nmcl.flows.report.study.results import results
from nmcl.model.evaluate import f1
from nmcl.model.feature_table import FeatureTable
from nmcl.model.registry import MODELS, Method
from nmcl.model.study.folds import fold, stratified
from nmcl.model.study.results import StudyData
from nmcl.model.study.runner import Runner
from nmcl.model.study.sections import hide, study_completion, subsets
from nmcl.model.study.study import TUNED_ONCE, StudySettings, study
from nmcl.model.study.tuning import candidates, changed, tune
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import ModelError, WorkerError
from tests.model.conftest import CLASSES, quick, stacked, with_terms, world

QUICK: dict[str, Method] = {
    **MODELS,
    "nmcl": replace(MODELS["nmcl"], settings=quick()),
    "nmcl_stacked": replace(MODELS["nmcl_stacked"], settings=stacked()),
    "variant_1": replace(MODELS["variant_1"], settings=quick(composition="variant_1")),
}
SKIP = ("modalities", "completion", "absence")
METHODS = ("nmcl", "nmcl_stacked", "variant_1", "logistic", "trumann", "majority")


def table(n: int = 240, seed: int = 0) -> FeatureTable:
    """The small world with every eighth `words` and `sound` absent."""
    rows = world(n, seed)
    modalities = {name: block.copy() for name, block in rows.modalities.items()}
    modalities["words"][::8] = np.nan
    modalities["sound"][4::8] = np.nan
    return FeatureTable(modalities, rows.label, CLASSES)


@pytest.fixture(scope="module")
def finished() -> tuple[StudyData, dict[str, np.ndarray]]:
    return study(table(), StudySettings(METHODS, seeds=2, jobs=1), QUICK)


def test_every_section_is_there(finished: tuple[StudyData, dict[str, np.ndarray]]) -> None:
    content = results(finished[0])
    json.dumps(content, allow_nan=False)
    assert list(content["methods"]) == list(METHODS)
    for name, row in content["methods"].items():
        assert len(row["micro_f1"]["values"]) == len(row["macro_f1"]["values"]) == 2
        assert row["micro_f1"]["mean"] == pytest.approx(np.mean(row["micro_f1"]["values"]))
        assert (row["p_value"] is None) == (name == "nmcl")
        assert row["parameters"] > 0
        assert row["train_seconds"] > 0
    singles, pairs = ["sight", "sound", "words"], ["sight+sound", "sight+words", "sound+words"]
    assert content["n_venues"] == 4
    assert list(content["modalities"]) == [*singles, *pairs, "sight+sound+words"]
    assert list(content["enhanced"]) == [*pairs, "sight+sound+words"]
    assert list(content["enhanced"]["sight+sound"]) == ["sight", "sound"]
    assert list(content["variants"]) == ["variant_1", "nmcl_stacked", "nmcl"]
    assert list(content["completion"]) == [f"0.{n}" for n in range(1, 10)]
    assert set(content["completion"]["0.5"]) == {"als", "implicit", "mean", "ridge"}
    assert set(content["absence"]) == set(singles)
    assert set(content["absence"]["sight"]) == {"completed", "masked"}
    assert content["modalities"]["sight+sound+words"]["macro_f1"] == content["methods"]["nmcl"]["macro_f1"]
    assert any("kernel_ridge has" in notice for notice in content["notices"])
    assert len(finished[0].relations) == 6
    assert [memory.host for memory in finished[0].attention] == singles


def test_scores_are_those_of_the_predictions(finished: tuple[StudyData, dict[str, np.ndarray]]) -> None:
    data, predictions = finished
    for row in data.methods:
        for seed in data.seeds:
            label, probability = predictions[f"label/{seed}"], predictions[f"{row.name}/{seed}"]
            assert row.micro_f1.values[seed] == pytest.approx(f1(label, probability.argmax(axis=1))[0])
    by_name = {row.name: row for row in data.methods}
    assert (by_name["logistic"].macro_f1.mean or 0) > (by_name["majority"].macro_f1.mean or 0) + 0.2


def test_gates_and_branches_of_every_epoch(finished: tuple[StudyData, dict[str, np.ndarray]]) -> None:
    data = finished[0]
    n_epochs = len(data.epochs["fused"])
    assert n_epochs == 8
    assert len(data.gates) == n_epochs * 3 * 2
    for point in data.gates:
        assert point.open + point.shut + point.undecided == pytest.approx(1.0)
    assert all(0.2 < share <= 1 for of_branch in data.collapse.values() for share in of_branch.values())


def test_two_processes_give_the_same_numbers(finished: tuple[StudyData, dict[str, np.ndarray]]) -> None:
    settings = StudySettings(("logistic", "majority"), seeds=2, jobs=2, skip=SKIP)
    _, predictions = study(table(), settings, QUICK)
    for name in ("logistic/0", "logistic/1", "majority/0"):
        np.testing.assert_allclose(predictions[name], finished[1][name], atol=1e-6)


def _killed(item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_on_a_given_split_a_method_without_a_seed_is_trained_once() -> None:
    totals = []

    def note(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "methods":
            totals.append(total)

    given = replace(table(), split=stratified(table(), 0))
    _, arrays = study(given, StudySettings(("logistic", "trumann"), seeds=3, jobs=1, skip=SKIP), QUICK, note)
    assert set(totals) == {1 + 3}
    for seed in (1, 2):
        np.testing.assert_array_equal(arrays[f"logistic/{seed}"], arrays["logistic/0"])
    _, arrays = study(table(), StudySettings(("logistic",), seeds=2, jobs=1, skip=SKIP), QUICK)
    assert not np.array_equal(arrays["logistic/0"], arrays["logistic/1"])


def test_mcnemar_s_test_counts_a_row_once() -> None:
    given = replace(table(), split=stratified(table(), 0))
    data, arrays = study(given, StudySettings(("nmcl", "majority"), seeds=3, jobs=1, skip=SKIP), QUICK)
    right, right_too = (arrays[name].argmax(axis=1) == arrays["label/0"] for name in ("majority/0", "nmcl/0"))
    n, k = int((right != right_too).sum()), int((right & ~right_too).sum())
    assert {row.name: row.mcnemar_p_value for row in data.methods}["majority"] == binomtest(k, n).pvalue


def test_a_search_on_one_of_several_splits_is_said() -> None:
    settings = StudySettings(("logistic",), seeds=2, budget=1, jobs=1, skip=SKIP)
    assert TUNED_ONCE in study(table(), settings, QUICK)[0].notices
    given = replace(table(), split=stratified(table(), 0))
    assert TUNED_ONCE not in study(given, settings, QUICK)[0].notices


def test_methods_of_terms_are_left_out_without_terms() -> None:
    settings = StudySettings(("majority", "ngram_bayes"), seeds=1, jobs=1, skip=SKIP)
    data, arrays = study(table(), settings, QUICK)
    assert [row.name for row in data.methods] == ["majority"]
    assert any(note.startswith("ngram_bayes: left out") for note in data.notices)
    terms = with_terms(world(240, 0), 0).terms
    data, arrays = study(replace(table(), terms=terms), settings, QUICK)
    found = arrays["ngram_bayes/0"].argmax(axis=1)
    assert (found == arrays["label/0"]).mean() > 0.6
    with pytest.raises(ModelError, match="No method is left"):
        study(table(), replace(settings, methods=("ngram_bayes",)), QUICK)


def test_a_killed_process_is_said() -> None:
    with pytest.raises(WorkerError, match="--jobs 1"):
        Runner(2).side_by_side("methods", _killed, [0, 1, 2], str)


def _slow(item: int) -> float:
    time.sleep(1)
    return float(item)


def _in_a_daemon() -> None:
    assert Runner(2).side_by_side("methods", _slow, [0, 1], str) == [0.0, 1.0]


def test_a_process_that_may_not_start_others_does_the_work_itself() -> None:
    process = multiprocessing.get_context("spawn").Process(target=_in_a_daemon, daemon=True)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("method", ["nmcl", "logistic", "trumann"])
def test_nothing_is_learnt_from_held_out_rows(method: str) -> None:
    """A feature that gives the class away in half of the test rows changes no number of the other half."""
    rows = table(400)
    split = stratified(rows, 0)
    tested = np.flatnonzero(split == "test")
    given_away, watched = tested[::2], slice(1, None, 2)
    planted = {name: block.copy() for name, block in rows.modalities.items()}
    planted["sight"][given_away] = 5 * np.eye(4, 3, dtype=np.float32)[rows.label[given_away]]
    settings = StudySettings((method,), seeds=1, jobs=1, skip=SKIP)
    before, after = (
        study(replace(rows, modalities=modalities, split=split), settings, QUICK)[1][f"{method}/0"]
        for modalities in (rows.modalities, planted)
    )
    np.testing.assert_allclose(after[watched], before[watched], rtol=1e-5, atol=1e-7)
    assert np.abs(after - before).max() > 0.01


def test_hiding_never_takes_a_rows_last_modality() -> None:
    rows = table()
    for share in (0.1, 0.5, 0.9):
        hidden = hide(rows, share, seed=3)
        left = np.stack([~np.isnan(block[:, 0]) & ~hidden[name] for name, block in rows.modalities.items()])
        assert left.any(axis=0).all()
        assert not any((hidden[name] & np.isnan(block[:, 0])).any() for name, block in rows.modalities.items())
    few, many = (np.mean(list(hide(rows, share, 3).values())) for share in (0.1, 0.5))
    assert 0.05 < few < 0.15 < 0.3 < many < 0.55


def test_filling_in_the_mean_is_off_by_one_deviation() -> None:
    whole = fold(table(600), 0, CompletionSettings(method="mean"))
    levels = study_completion(whole, CompletionSettings(rank=3, regularization=0.1), Runner())
    for level in levels:
        assert level.completers["mean"].nrmse == pytest.approx(1.0, abs=0.1)


def test_subsets() -> None:
    assert subsets(["b", "a"]) == [("a",), ("b",)]
    assert len(subsets(list("abcd"))) == 2**4 - 2
    assert len(subsets(list("abcdef"))) == 6 + 15 + 6


def test_every_method_is_given_the_same_number_of_tries() -> None:
    for method in (MODELS["nmcl"], MODELS["trumann"], MODELS["dare_lite"]):
        tries = candidates(method, 6, seed=0)
        assert len(tries) == 6
        assert tries[0] == {}
        assert len({json.dumps(t) for t in tries}) == 6
    assert candidates(MODELS["logistic"], 6, seed=0) == [{}]


def test_the_search_chooses_by_validation_rows() -> None:
    method = replace(QUICK["nmcl"], grid={"train.learning_rate": (1e-6, 1e-5), "dropout": (0.0, 0.1)})
    rows = fold(table(), 0, CompletionSettings(method="mean"))
    chosen, tried = tune({"nmcl": method, "majority": MODELS["majority"]}, rows, 3, Runner())
    assert chosen["nmcl"] == method.settings  # the others hardly learn
    assert [trial.chosen for trial in tried["nmcl"]] == [True, False, False]
    assert tried["nmcl"][0].settings == {"train.learning_rate": method.settings.train.learning_rate, "dropout": 0.3}
    assert len(tried["majority"]) == 1
    assert changed(method.settings, {"train.batch_size": 64}).train.batch_size == 64
