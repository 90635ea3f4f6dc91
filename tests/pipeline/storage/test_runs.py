import json
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl
from nmcl.pipeline.storage.run_files import ComparisonNote, DriftNote, Metrics, Verdict
from nmcl.pipeline.storage.runs import Run, champion, find_run, history, list_runs, named_run, promote, rollback
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, read_table
from tests.records import COMPARISON, DRIFT, METRICS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def finished(store: Store, name: str) -> Run:
    run = Run(store, f"runs/{name}")
    run.write(METRICS)
    return run


def put(store: Store, name: str) -> None:
    promote(finished(store, name), "promote", f"because of {name}")


def folder(run: Run | None) -> str | None:
    return run.folder if run else None


def test_a_run_without_files_has_no_records(store: Store) -> None:
    run = Run(store, "runs/a")
    assert (run.metrics, run.drift, run.comparison, run.model, run.splits) == (None,) * 5
    assert (run.is_trained, run.is_finished, run.is_latest, run.when) == (False, False, False, "")
    assert run.data == {"crawls": []}
    with pytest.raises(StoreError, match="not a finished run"):
        run.require_metrics()
    with pytest.raises(StoreError, match="missing"):
        _ = run.recipe


@pytest.mark.parametrize(("name", "record"), [("metrics", METRICS), ("drift", DRIFT), ("comparison", COMPARISON)])
def test_a_record_is_read_as_it_was_written(
    name: str, record: Metrics | DriftNote | ComparisonNote, store: Store
) -> None:
    run = Run(store, "runs/a")
    assert getattr(run, name) is None
    run.write(record)
    assert getattr(run, name) == record  # also where it was asked for before
    assert getattr(Run(store, "runs/a"), name) == record


def test_files_keep_the_keys_of_earlier_versions(store: Store) -> None:
    run = Run(store, "runs/a")
    for record in (METRICS, DRIFT, COMPARISON):
        run.write(record)
    metrics, drift, comparison = (store.read_json(run.file(f"{n}.json")) for n in ("metrics", "drift", "comparison"))
    assert metrics.keys() == {
        "test", "validation", "modality", "counts", "venues", "set_aside_venues", "completion", "autoencoder",
        "diagnostics", "notices", "seconds", "extract_seconds", "settings",
    }  # fmt: skip
    assert metrics["test"].keys() == {
        "n_rows", "micro_f1", "macro_f1", "auc_micro", "auc_macro", "top5", "log_loss", "majority_share",
        "ece", "ece_if_calibrated",
    }  # fmt: skip
    assert drift.keys() == {
        "champion", "crawls", "figures", "exceeded", "stopped", "settings", "news", "venues", "when",
    }  # fmt: skip
    assert drift["venues"].keys() == {"learnt_anew", "dropped", "too_few", "not_seen"}
    assert drift["figures"]["visual"]["mmd"]["by_chance"] == 0.0
    assert comparison.keys() == {
        "champion", "challenger", "crawls", "comparison", "verdict", "rule", "started_from", "refitted", "news", "when",
    }  # fmt: skip
    assert comparison["comparison"].keys() == {
        "frozen", "fresh", "together", "trusted", "crawls", "new_venues", "changed",
    }  # fmt: skip


def test_keys_of_other_versions_are_ignored_and_wrong_values_are_not(store: Store) -> None:
    run = Run(store, "runs/a")
    run.write(METRICS)
    tree = store.read_json(run.file("metrics.json"))
    store.write_json(run.file("metrics.json"), tree | {"later": 1, "test": tree["test"] | {"later": 1}})
    assert Run(store, "runs/a").metrics == METRICS
    for wrong in ({"test": {"n_rows": -1}}, {"counts": {}}, {"seconds": {"fit": "1"}}, {"notices": None}):
        store.write_json(run.file("metrics.json"), tree | wrong)
        with pytest.raises(StoreError, match=r"metrics\.json is damaged"):
            _ = Run(store, "runs/a").metrics


def test_lineage_is_read_as_it_was_written(store: Store) -> None:
    catalogue = Catalogue((Crawl("a", "/crawls/a", (), ("a note",)),))
    videos = [Video(i, "a", f"{i}.mp4", i * 64, 1, None, "Beach", None, None) for i in "21"]
    Run(store, "runs/a").write_lineage(catalogue, [(videos[0], "test"), (videos[1], "train")])
    run = Run(store, "runs/a")
    assert run.catalogue == catalogue
    assert run.splits == {"1" * 64: "train", "2" * 64: "test"}
    rows = read_table(store, "runs/a/splits.parquet").select(["video_id", "crawl", "split"]).to_pylist()
    assert rows[0] == {"video_id": "2", "crawl": "a", "split": "test"}
    store.write("runs/b/splits.parquet", encode(pa.table({"sha256": ["1" * 64], "split": ["train"]})))
    assert Run(store, "runs/b").splits == {"1" * 64: "train"}  # as earlier versions wrote it


def test_history_records_who_when_and_why_and_the_link_follows(store: Store) -> None:
    assert champion(store) is None
    promote(finished(store, "a"), "first", "the first run")
    put(store, "b")
    first, second = history(store)
    assert (first.run, first.before, first.how) == ("runs/a", None, "first")
    assert (second.run, second.before, second.why) == ("runs/b", "runs/a", "because of b")
    assert second.who
    assert second.when >= first.when
    assert second.data == {"crawls": [], "videos": 9, "train": 4, "validation": 2, "test": 3, "unlabelled": 0}
    assert second.metrics == {"test": {"macro_f1": 0.5, "micro_f1": 0.75, "n_rows": 3}}
    assert folder(champion(store)) == "runs/b"
    assert store.leads("champion", "runs/b")
    content = json.loads(store.read("champions.json"))
    assert content == {"champion": "runs/b", "history": [json.loads(json.dumps(asdict(e))) for e in (first, second)]}


def test_an_unfinished_run_is_not_promoted(store: Store) -> None:
    with pytest.raises(StoreError, match="not a finished run"):
        promote(Run(store, "runs/a"), "promote", "by hand")
    assert not store.exists("champions.json")


def test_promoting_the_champion_again_writes_nothing(store: Store) -> None:
    put(store, "a")
    before = store.read("champions.json")
    promote(Run(store, "runs/a"), "retrain", "again")
    assert store.read("champions.json") == before


def test_rollbacks_go_back_step_by_step(store: Store) -> None:
    for name in "abc":
        put(store, name)
    assert [rollback(store).run, rollback(store).run] == ["runs/b", "runs/a"]
    with pytest.raises(StoreError, match="runs/a is the first"):
        rollback(store)
    put(store, "d")
    assert rollback(store).run == "runs/a"
    assert [entry.how for entry in history(store)] == [*["promote"] * 3, *["rollback"] * 2, "promote", "rollback"]


def test_a_run_that_comes_back_may_be_rolled_back_again(store: Store) -> None:
    put(store, "a")
    put(store, "b")
    rollback(store)
    put(store, "b")
    assert rollback(store).run == "runs/a"


def test_an_interrupted_promotion_is_undone_or_made_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        put(store, name)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for change, before, after in (
        (lambda: put(store, "a"), "runs/c", "runs/a"),
        (lambda: rollback(store), "runs/a", "runs/c"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write_json", interrupted)
            with pytest.raises(KeyboardInterrupt):
                change()
        assert folder(champion(store)) == before
        with store.locked():
            assert store.leads("champion", before)
            change()
        assert store.leads("champion", after)
        assert folder(champion(store)) == after


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"champion": 3}', b'{"champion": "../x"}'])
def test_a_damaged_history_does_not_keep_the_store_locked(store: Store, content: bytes) -> None:
    put(store, "a")
    store.write("champions.json", content)
    with store.locked():
        assert store.leads("champion", "runs/a")


def test_a_damaged_history(store: Store) -> None:
    store.write_json("champions.json", {"history": [{"run": "runs/a"}]})
    with pytest.raises(StoreError, match="damaged"):
        champion(store)


def test_a_run_is_found_by_any_beginning_that_no_other_has(store: Store) -> None:
    for name in ("nmcl-1b2c", "nmcl-1b3d", "logistic-77aa"):
        finished(store, name)
    store.point("latest", "runs/nmcl-1b3d")
    for name in ("runs/nmcl-1b2c", "nmcl-1b2c", "nmcl-1b2", "1b2"):
        assert find_run(store, name).folder == "runs/nmcl-1b2c"
    assert find_run(store, "latest").folder == "runs/nmcl-1b3d"
    with pytest.raises(StoreError, match="Ambiguous run name nmcl: matches nmcl-1b2c, nmcl-1b3d"):
        find_run(store, "nmcl")
    for name in ("logistic_late-77aa", "logistic_late-88bb"):
        finished(store, name)
    assert find_run(store, "logistic").folder == "runs/logistic-77aa"
    with pytest.raises(StoreError, match="There is no run other"):
        find_run(store, "other")


def test_runs_are_listed_with_their_states(store: Store) -> None:
    put(store, "a")
    put(store, "b")
    lost = finished(store, "c")
    lost.write(replace(COMPARISON, verdict=Verdict(False, ("it is worse", "everywhere"), ())))
    Run(store, "runs/d").write(replace(DRIFT, stopped=True))
    Run(store, "runs/e").write(DRIFT)
    listed = {run.run.removeprefix("runs/"): run for run in list_runs(store)}
    assert {name: run.state for name, run in listed.items()} == {
        "a": "former champion", "b": "champion", "c": "challenger", "d": "stopped", "e": "unfinished",
    }  # fmt: skip
    assert (listed["b"].why, listed["c"].why, listed["d"].why) == ("because of b", "it is worse; everywhere", None)
    assert (listed["c"].compared_with, listed["c"].who) == (COMPARISON.champion, None)
    assert (listed["b"].metrics["n_rows"], listed["d"].metrics) == (3, {})


def test_a_champion_that_is_asked_for_and_is_not_there(store: Store) -> None:
    with pytest.raises(StoreError, match="has no champion yet"):
        named_run(store, "champion")
