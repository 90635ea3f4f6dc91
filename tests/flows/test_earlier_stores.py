"""Stores made by earlier versions stay usable. See `tests/data/README.md`."""

import csv
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nmcl.flows.cli.study import stored_features
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl

pytestmark = pytest.mark.services
DATA = Path(__file__).resolve().parents[1] / "data"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The store of commit 28a06ff, whose crawl is no longer there."""
    with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return Store.open(tmp_path / "out")


@pytest.fixture
def new_crawl(sample_crawl: Path, tmp_path: Path) -> Path:
    """Videos of the rendered sample that the store does not know, and a file that is none."""
    folder = tmp_path / "tuesday"
    (folder / "videos").mkdir(parents=True)
    with (sample_crawl / "manifest.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    wanted = [row for row in rows if "v0100" <= row[0] <= "v0150"]
    for row in wanted:
        shutil.copy(sample_crawl / row[1], folder / row[1])
    (folder / "videos" / "broken.mp4").write_bytes(b"not a video")
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *wanted, ["broken", "videos/broken.mp4", "", ""]])
    return folder


def test_runs_predict_promote_and_rollback(store: Store, new_crawl: Path, tmp_path: Path) -> None:
    listed = json.loads(nmcl("runs", "--out", store.url, "--json").stdout)
    assert {run["run"].split("-")[0]: run["state"] for run in listed["runs"]} == {
        "runs/nmcl": "champion",
        "runs/logistic": "former champion",
    }
    before = {name: store.read(name) for name in store.list("") if name.endswith(".json")}
    said = nmcl("predict", new_crawl, "--model", store.url, "--out", tmp_path / "venues.parquet")
    assert said.stderr.count("was trained on vectors of an earlier version") == 1
    assert "a few of them may differ" in said.stderr
    rows = pq.read_table(tmp_path / "venues.parquet").to_pylist()
    assert len(rows) == 52
    assert {row["status"] for row in rows[:-1]} == {"ok"}
    assert rows[-1]["status"] == "failed"
    assert {name: store.read(name) for name in before} == before

    assert "Champion: runs/logistic" in nmcl("rollback", "--out", store.url).stdout
    nmcl("predict", new_crawl, "--model", store.url, "--out", tmp_path / "venues.csv")
    assert "Champion: runs/nmcl" in nmcl("promote", "nmcl", "--out", store.url).stdout
    assert nmcl("verify", "--out", store.url).returncode == 0


def test_its_features_can_be_studied(store: Store) -> None:
    table = stored_features(Path(store.url))
    assert len(table.label) == 91
    assert set(table.modalities) == {"visual", "acoustic", "textual"}


def test_retrain_extracts_only_what_is_new(store: Store, new_crawl: Path) -> None:
    known = {
        name: store.read(name)
        for kind in ("features", "states", "failures")
        for folder in store.list(kind)
        for name in (f"{kind}/{folder}/{file}" for file in store.list(f"{kind}/{folder}"))
    }
    said = nmcl("retrain", new_crawl, "--out", store.url, "--allow-drift")
    assert said.stderr.count("was trained on vectors of an earlier version") == 1
    assert "Champion: runs/" in said.stdout
    assert {name: store.read(name) for name in known} == known
    assert nmcl("verify", "--out", store.url).returncode == 0
