"""Retraining on parts of the rendered sample: real media through every stage, without an engine but for one command."""

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from nmcl.flows.report.retraining import changed_rows, drift_rows
from nmcl.flows.retrain.context import Options, RetrainContext, prepare, settings_for
from nmcl.flows.retrain.retrain import Callbacks, Outcome, retrain
from nmcl.flows.run import predict
from nmcl.flows.run.lineage import lineage_of
from nmcl.flows.run.parts import run_sequentially
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.runs import missing, up_to
from nmcl.flows.run.stages import Context, extract, ingest
from nmcl.flows.settings import from_tree
from nmcl.flows.settings_tree import Tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.errors import DriftError, SettingsError, StoreError
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.stages.drift import DriftSettings, of_files
from nmcl.pipeline.storage.run_files import ComparisonNote
from nmcl.pipeline.storage.runs import Run, champion, find_run, history, list_runs, promote, rollback
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import decode
from tests.records import DRIFT

NMCL = str(Path(sys.executable).parent / "nmcl")
QUICK: Tree = {
    "visual": {"backbone": "efficientnet_lite0", "key_frames": 1},
    "acoustic": {"max_frames": 500, "autoencoder": {"epochs": 0, "fine_tune_epochs": 0, "min_steps": 0}},
    "textual": {"min_words": 20_000, "inference_epochs": 5},
    "completion": {"method": "mean"},
    "split": {"min_venue_videos": 10},
    "model": {"name": "logistic", "inverse_penalties": [0.01]},
}
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows(sample_crawl: Path) -> dict[str, Rows]:
    """The labelled rows of the sample by venue."""
    found: dict[str, Rows] = {}
    with (sample_crawl / "manifest.csv").open() as file:
        for row in csv.DictReader(file):
            if row["venue"] and "broken" not in row["video_path"]:
                row["video_path"] = str(sample_crawl / row["video_path"])
                found.setdefault(row["venue"], []).append(row)
    return found


def write_crawl(folder: Path, rows: Iterable[dict[str, str]], prefix: str = "") -> Path:
    """A crawl of links to some of the sample's videos, perhaps under other names."""
    folder.mkdir(parents=True)
    lines = []
    for row in rows:
        name = f"{prefix}{Path(row['video_path']).name}"
        os.link(row["video_path"], folder / name)
        lines.append(row | {"video_path": name, "video_id": f"{prefix}{row['video_id']}"})
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0].keys())
        writer.writeheader()
        writer.writerows(lines)
    return folder


def some(rows: dict[str, Rows], first: int, last: int) -> Rows:
    """Videos of every venue."""
    return [row for of_venue in rows.values() for row in of_venue[first:last]]


def shuffled(rows: Rows) -> Rows:
    venues = [row["venue"] for row in rows]
    random.Random(0).shuffle(venues)
    return [row | {"venue": venue} for row, venue in zip(rows, venues, strict=True)]


@pytest.fixture(scope="module")
def first_run(rows: dict[str, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion, and a run that is none: it always names the most frequent venue."""
    folder = tmp_path_factory.mktemp("first")
    store = Store.create(folder / "out")
    context = Context(store, from_tree(QUICK))
    ingest(context, write_crawl(folder / "a", some(rows, 0, 16)))
    remember(store, context.settings)
    up_to(context, "evaluate")
    up_to(Context(store, from_tree(QUICK | {"model": {"name": "majority"}})), "evaluate")
    return folder / "out"


@pytest.fixture
def store(first_run: Path, tmp_path: Path) -> Store:
    """A store of its own with that champion."""
    return copy_of(first_run, tmp_path)


@pytest.fixture(scope="module")
def extracted(first_run: Path, crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the vectors of the later crawl, so that not every test extracts them."""
    store = copy_of(first_run, tmp_path_factory.mktemp("extracted"))
    context, inputs = begin(store, crawl)
    extract(context, inputs.champion_plan)
    return store.local_path()


@pytest.fixture
def ready(extracted: Path, tmp_path: Path) -> Store:
    """A store of its own with that champion and those vectors."""
    return copy_of(extracted, tmp_path)


def copy_of(store: Path, folder: Path) -> Store:
    return Store.open(shutil.copytree(store, folder / "out", symlinks=True))


@pytest.fixture(scope="module")
def crawl(rows: dict[str, Rows], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A later crawl: new videos, and three of the first crawl under other names."""
    return write_crawl(tmp_path_factory.mktemp("later") / "b", [*some(rows, 16, 30), *some(rows, 0, 1)], "new-")


def begin(
    store: Store, crawl: Path | None, changes: Tree | None = None, **options: bool
) -> tuple[Context, RetrainContext]:
    context = settings_for(Context(store, from_tree({})), changes or {}, Options(**options))
    if crawl:
        ingest(context, crawl)
    return context, prepare(context, [crawl] if crawl else None, Options(**options))


def do(store: Store, crawl: Path | None, changes: Tree | None = None, **options: bool) -> Outcome:
    return retrain(*begin(store, crawl, changes, **options), Callbacks())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def artifacts(files: dict[str, bytes]) -> set[str]:
    return {name.split("/")[1] for name in files if name.startswith(("features", "states", "completed"))}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name, data in before.items() if after.get(name) != data}


def best(store: Store) -> Run:
    run = champion(store)
    assert run is not None
    return run


def champion_of(store: Store) -> str:
    return best(store).folder


def by_hand(store: Store, name: str) -> None:
    promote(find_run(store, name), "promote", "by hand")


def win(store: Store, crawl: Path) -> Outcome:
    """A challenger that beats a champion which knows nothing."""
    by_hand(store, "majority")
    return do(store, crawl, {"model": QUICK["model"], "promotion": {"min_agreement": 0.0}})


def test_the_first_run_is_champion_and_a_later_one_is_not(store: Store) -> None:
    run = champion_of(store)
    assert run.startswith("runs/logistic")
    (other,) = {f"runs/{name}" for name in store.list("runs")} - {run}
    assert store.leads("latest", other)
    assert predict.find_run(store.local_path()).folder == run
    assert predict.find_run(store.local_path(other)).folder == other
    states = {r.run: r.state for r in list_runs(store)}
    assert states == {run: "champion", other: "challenger"}


def test_a_crawl_is_taken_up_on_the_champions_states(store: Store, crawl: Path) -> None:
    root = store.local_path()
    before, lineage = snapshot(root), lineage_of(best(store))
    context, inputs = begin(store, crawl)
    (diff,) = inputs.diffs
    assert (diff.n_videos, diff.n_labelled, diff.n_known, diff.n_renamed) == (42, 42, 3, 3)
    outcome = retrain(context, inputs, Callbacks())
    after = snapshot(root)
    assert {name for name in changed(before, after) if name.startswith(("features", "states", "completed"))} == set()
    new_folders = {name.split("/")[1] for name in after if name.startswith(("features", "states", "completed"))}
    assert new_folders == {
        name.split("/")[1] for name in before if name.startswith(("features", "states", "completed"))
    }
    splits = lineage_of(inputs.run).splits
    assert {k: splits[k] for k in lineage.splits} == dict(lineage.splits)
    assert len(splits) == len(lineage.splits) + 42
    assert store.exists(f"{inputs.run.folder}/drift.json")
    note = store.read_json(f"{inputs.run.folder}/comparison.json")
    n_test = sum(split == "test" for split in lineage.splits.values())
    assert note["comparison"]["frozen"]["n_rows"] == n_test
    assert note["comparison"]["fresh"]["n_rows"] == sum(s == "test" for s in splits.values()) - n_test
    assert note["comparison"]["crawls"]["b"]["kappa"] > 0.5
    assert outcome.result in ("kept", "promoted")
    assert (champion_of(store) == inputs.run.folder) == note["verdict"]["promoted"]
    assert "b" in store.read(f"{inputs.run.folder}/retraining.html").decode()

    files = snapshot(root)
    again = do(store, crawl)
    assert not again.is_new
    assert snapshot(root) == files


def test_a_better_challenger_is_promoted_and_can_be_rolled_back(ready: Store, crawl: Path) -> None:
    outcome = win(ready, crawl)
    assert outcome.result == "promoted"
    assert outcome.champion == outcome.challenger == champion_of(ready)
    entry = history(ready)[-1]
    assert entry.how == "retrain"
    assert "better: macro-F1" in entry.why
    assert "significant difference (" in entry.why
    note = best(ready).comparison
    assert note is not None
    check_changed(ready, note)
    assert entry.data["crawls"] == ["a", "b"]
    assert entry.metrics["test"]["macro_f1"] > 0.5

    again = do(ready, crawl)
    assert (again.result, again.is_new) == ("nothing", False)
    assert "all 45 videos are known" in again.why

    before = entry.before
    rollback(ready)
    assert champion_of(ready) == before
    refused = do(ready, crawl, {"model": QUICK["model"], "promotion": {"min_agreement": 0.0}})
    assert refused.result == "rolled back"
    assert champion_of(ready) == before
    by_hand(ready, outcome.challenger or "")
    assert champion_of(ready) == outcome.challenger


def check_changed(store: Store, note: ComparisonNote) -> None:
    """The changed videos are those that the tables of predictions of both runs tell apart."""
    tables = [decode(store.read(f"{run}/predictions.parquet"), "") for run in (note.champion, note.challenger)]
    before, after = (
        dict(zip(*(t.column(c).to_pylist() for c in ("video_id", "venue_1")), strict=True)) for t in tables
    )
    changed = note.comparison.changed
    assert len(changed) == note.comparison.together.wins + note.comparison.together.losses > 0
    assert sum(v.challenger == v.label for v in changed) == note.comparison.together.wins
    for v in changed:
        assert (v.challenger == v.label) != (v.champion == v.label)
        assert before.get(v.video_id, v.champion) == v.champion
        assert after[v.video_id] == v.challenger
    assert any(v.video_id in before for v in changed)
    page = store.read(f"{note.challenger}/retraining.html").decode()
    assert "Test videos that only one gets right" in page
    for row in changed_rows(note)[1:]:
        assert row[0] in page


def test_shuffled_labels_lose_and_stay_out_of_the_next_challenger(
    ready: Store, rows: dict[str, Rows], crawl: Path, tmp_path: Path
) -> None:
    run = champion_of(ready)
    bad = write_crawl(tmp_path / "shuffled", shuffled(some(rows, 16, 30)), "new-")
    outcome = do(ready, bad)
    assert outcome.result == "kept"
    assert "labels of shuffled cannot be trusted" in outcome.why
    assert champion_of(ready) == run
    _, inputs = begin(ready, crawl)
    assert [diff.crawl for diff in inputs.diffs] == ["b"]
    assert {c.name for c in inputs.challenger.catalogue.crawls} == {"a", "b"}
    sweep = do(ready, None)
    assert sweep.result in ("kept", "promoted")
    assert {c.name for c in lineage_of(Run(ready, sweep.challenger or "")).catalogue.crawls} == {"a", "b"}


class Interrupted(BaseException):
    """In the place of a kill."""


class Interrupting(Callbacks):
    def compared(self, plan: Plan, note: ComparisonNote) -> None:
        raise Interrupted


def test_what_is_interrupted_anywhere_is_completed_by_the_same_command(ready: Store, crawl: Path) -> None:
    for step in ("drift", "fit", "complete", "train", "evaluate", "compare", "compared"):

        def run_task(name: str, work: Callable[[], Any], step: str = step) -> Any:
            if name == step:
                raise Interrupted
            return work()

        def map_items(name: str, work: Any, items: Any, progress: Progress, step: str = step) -> list[Any]:
            return run_task(name, lambda: run_sequentially(name, work, items, progress), step)  # type: ignore[no-any-return]

        context, inputs = begin(ready, crawl)
        callbacks = Interrupting() if step == "compared" else Callbacks()
        with pytest.raises(Interrupted):
            retrain(replace(context, map_items=map_items, run_task=run_task), inputs, callbacks)
        assert champion_of(ready) == inputs.champion.folder
    outcome = do(ready, crawl)
    assert outcome.challenger == inputs.run.folder
    verdict = ready.read_json(f"{inputs.run.folder}/comparison.json")["verdict"]
    assert champion_of(ready) == (inputs.run if verdict["promoted"] else inputs.champion).folder


def test_drift_stops_and_loses_nothing(store: Store, rows: dict[str, Rows], tmp_path: Path) -> None:
    run = champion_of(store)
    one_venue = write_crawl(tmp_path / "one", next(iter(rows.values()))[16:50])
    context, inputs = begin(store, one_venue)
    with pytest.raises(DriftError, match=r"labels label shift is 0.667.*allow-drift") as error:
        retrain(context, inputs, Callbacks())
    assert error.value.folder == inputs.run.folder
    note = store.read_json(f"{inputs.run.folder}/drift.json")
    assert note["stopped"]
    assert "labels.label_shift" in note["exceeded"]
    assert {r.run: r.state for r in list_runs(store)}[inputs.run.folder] == "stopped"
    assert champion_of(store) == run
    extracted = snapshot(store.local_path("features"))
    allowed = do(store, one_venue, {"drift": {"stop": False}})
    assert allowed.challenger == inputs.run.folder
    assert snapshot(store.local_path("features")) == extracted
    assert store.read_json(f"{inputs.run.folder}/drift.json")["exceeded"] == note["exceeded"]


def unlabelled(folder: Path, rows: Rows, n_broken: int = 0) -> Path:
    """A crawl of new videos without venues, some of which do not decode."""
    for i in range(n_broken):
        broken = folder.parent / f"broken-{folder.name}-{i}.mp4"
        broken.write_text(f"no video {folder.name} {i}")
        rows = [*rows, {**rows[0], "video_path": str(broken), "video_id": broken.stem}]
    return write_crawl(folder, [row | {"venue": ""} for row in rows], "new-")


def test_a_crawl_without_labels_is_extracted_and_its_drift_measured(
    store: Store, rows: dict[str, Rows], tmp_path: Path
) -> None:
    crawl = unlabelled(tmp_path / "c", next(iter(rows.values()))[16:18], n_broken=2)
    outcome = do(store, crawl)
    assert (outcome.result, outcome.is_new) == ("nothing", True)
    assert "4 new videos, extracted, none labelled" in outcome.why
    assert missing(begin(store, crawl)[1].champion_plan) == [
        "evaluate"
    ]  # of the champion, as another run is the latest
    assert sum(decode(store.read(f"{folder}/{part}"), part).num_rows for folder, part in failed(store)) == 2
    note = store.read_json(f"{outcome.notes}/drift.json")
    assert list(note["crawls"]) == ["c"]
    assert note["figures"]["files"]["failed"]["n_new"] == 4
    assert "no challenger is trained" in store.read(f"{outcome.notes}/retraining.html").decode()
    files = snapshot(store.local_path())
    again = do(store, crawl)
    assert (again.result, again.is_new) == ("nothing", False)
    assert snapshot(store.local_path()) == files


def failed(store: Store) -> list[tuple[str, str]]:
    folders = [f"failures/{name}" for name in store.list("failures")]
    return [(folder, part) for folder in folders for part in store.list(folder) if part.endswith(".parquet")]


def test_videos_without_labels_after_a_challenger_that_lost(
    ready: Store, rows: dict[str, Rows], crawl: Path, tmp_path: Path
) -> None:
    high: Tree = {"promotion": {"min_gain": 1.0}}
    lost = do(ready, crawl, high)
    assert (lost.result, lost.notes) == ("kept", lost.challenger)
    before = snapshot(ready.local_path("runs"))
    outcome = do(ready, unlabelled(tmp_path / "c", next(iter(rows.values()))[30:32]), high)
    assert (outcome.result, outcome.challenger, outcome.is_new) == ("kept", lost.challenger, True)
    assert list(ready.read_json(f"{outcome.notes}/drift.json")["crawls"]) == ["b", "c"]
    assert snapshot(ready.local_path("runs")) == before
    assert not do(ready, tmp_path / "c", high).is_new


def test_drift_of_videos_without_labels_stops(ready: Store, rows: dict[str, Rows], tmp_path: Path) -> None:
    crawl = unlabelled(tmp_path / "c", next(iter(rows.values()))[30:31], n_broken=3)
    low: Tree = {"drift": {"min_rows": 4}}
    before = snapshot(ready.local_path("runs"))
    for _ in range(2):
        with pytest.raises(DriftError, match=r"c has drifted.*files failed is 0.75") as error:
            do(ready, crawl, low)
    assert ready.read_json(f"{error.value.folder}/drift.json")["stopped"]
    assert snapshot(ready.local_path("runs")) == before
    assert [diff.crawl for diff in begin(ready, None)[1].diffs] == ["a", "b"]
    assert do(ready, crawl, low, allow_drift=True).result == "nothing"


def test_there_is_no_verdict_on_a_few_new_videos() -> None:
    settings = DriftSettings()
    for n_new, verdict in ((4, "too few"), (settings.min_rows, "exceeded")):
        figures = of_files(np.zeros(100, bool), np.arange(n_new) < 0.75 * n_new, settings)
        note = replace(DRIFT, figures={"files": figures}, settings=asdict(settings))
        assert drift_rows(note)[1][-1] == verdict


def test_refit_makes_new_states_beside_the_old_ones(ready: Store, crawl: Path) -> None:
    root = ready.local_path()
    before = snapshot(root)
    with pytest.raises(SettingsError, match="Retrain with --refit"):
        begin(ready, crawl, {"textual": {"dim": 20}})
    outcome = do(ready, crawl, {"textual": {"dim": 20}}, refit=True)
    venues = ready.read_json(f"{outcome.challenger}/drift.json")["venues"]
    assert not any(venues.values())  # as nothing is new
    after = snapshot(root)
    kept = ("states", "features", "completed", "failures", "videos", "runs")
    assert {name for name in changed(before, after) if name.startswith(kept)} == set()
    assert len(ready.list("states")) == 8
    assert len([name for name in ready.list("features") if name.startswith("textual")]) == 2
    splits = [lineage_of(run).splits for run in (best(ready), Run(ready, outcome.challenger or ""))]
    assert splits[0].items() <= splits[1].items()


def test_new_venues_are_compared_on_common_ones_and_reported(
    store: Store, rows: dict[str, Rows], tmp_path: Path
) -> None:
    known = next(iter(rows))
    zoo = [row | {"venue": "Zoo"} for row in rows[known][16:40]]
    others = [row for venue in list(rows)[1:] for row in rows[venue][16:24]]
    outcome = do(store, write_crawl(tmp_path / "zoo", [*zoo, *others], "zoo-"), {"drift": {"stop": False}})
    run = outcome.challenger
    venues = store.read_json(f"{run}/drift.json")["venues"]
    assert venues["learnt_anew"] == ["Zoo"]
    assert venues["not_seen"] == [known]
    note = store.read_json(f"{run}/comparison.json")["comparison"]
    assert note["new_venues"]["Zoo"]["n_rows"] >= 5
    assert note["crawls"]["zoo"]["n_rows"] == len(others)


def test_promote_and_rollback_refuse_what_they_cannot_do(store: Store) -> None:
    with pytest.raises(StoreError, match="is the first"):
        rollback(store)
    with pytest.raises(StoreError, match="There is no run nothing"):
        by_hand(store, "nothing")
    entries = history(store)
    by_hand(store, "logis")
    assert history(store) == entries
    store.write_json("runs/logistic-unfinished/model.json", {})
    with pytest.raises(StoreError, match="Ambiguous run name"):
        by_hand(store, "logis")
    with pytest.raises(StoreError, match="not a finished run"):
        by_hand(store, "logistic-un")


def test_a_run_that_does_not_tell_where_it_comes_from(store: Store, crawl: Path) -> None:
    run = champion_of(store)
    store.local_path(f"{run}/splits.parquet").unlink()  # as an earlier version left it
    with pytest.raises(StoreError, match="does not record which videos"):
        begin(store, crawl)
    up_to(Context(store, from_tree(QUICK)), "evaluate")
    assert begin(store, crawl)[1].champion.folder == run
    (state,) = store.local_path("states").glob("textual-*/state.json")
    state.unlink()
    with pytest.raises(StoreError, match="cannot be used again"):
        begin(store, crawl)


def test_listed_for_people_and_for_programs(store: Store) -> None:
    root = str(store.local_path())
    listed = CliRunner().invoke(app, ["runs", "--out", root])
    assert listed.exit_code == 0
    assert "Latest: runs/majority-" in listed.stdout
    assert "(first) the first run" in listed.stdout
    listed = json.loads(CliRunner().invoke(app, ["runs", "--out", root, "--json"]).stdout)
    assert listed["champion"] == listed["runs"][0]["run"] == listed["history"][0]["run"]
    assert [run["state"] for run in listed["runs"]] == ["champion", "challenger"]
    assert [run["is_latest"] for run in listed["runs"]] == [False, True]
    assert listed["runs"][0]["data"]["crawls"] == ["a"]


@pytest.mark.services
def test_the_command_killed_and_run_again(store: Store, crawl: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {"PREFECT_HOME": str(tmp_path / "home"), "COLUMNS": "120"}
    command = [NMCL, "retrain", str(crawl), "--out", str(store.local_path())]
    n_before = len(store.list("runs"))
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while time.monotonic() < end and len(store.list("runs")) == n_before:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Drift of b" in done.stdout
    assert "both (" in done.stdout
    with closing(sqlite3.connect(tmp_path / "home" / "prefect.db")) as database:
        shown = {key.partition("-")[0] for (key,) in database.execute("select key from artifact")}
    assert {"outcomes", "drift", "comparison", "report", "champion"} <= shown
    files = snapshot(store.local_path())
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "as before" in again.stdout or "nothing is new" in again.stdout
    assert snapshot(store.local_path()) == files
