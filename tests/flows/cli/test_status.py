"""`nmcl status` on real small stores: its numbers, the next command, damage and hostile names."""

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nmcl.flows.run import runs, stages
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import ModelChoice, Settings
from nmcl.flows.stored_settings import of_store, remember
from nmcl.model.registry import MODELS
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl, nmcl_here

DATA = Path(__file__).resolve().parents[2] / "data"


@dataclass(frozen=True)
class Status:
    """The command in this process."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, out: Path, code: int = 0) -> Any:
        """Return its JSON."""
        found, printed, said = self._run("status", "--out", out, "--json", "--check")
        assert found == code, said
        assert printed.isascii()
        return json.loads(printed)

    def text(self, out: Path) -> str:
        """Return what it shows."""
        found, printed, said = self._run("status", "--out", out)
        assert found == 0, said
        return printed + said

    def _run(self, *arguments: object) -> tuple[int, str, str]:
        return nmcl_here(*arguments, capsys=self.capsys, monkeypatch=self.monkeypatch)


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Status:
    return Status(capsys, monkeypatch)


@pytest.fixture
def out(trained: Path, tmp_path: Path) -> Path:
    """A store with a finished run, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "out", symlinks=True))


def test_a_finished_store(status: Status, out: Path, small_crawl: Path) -> None:
    found = status(out)
    (crawl,) = found["crawls"]
    assert (crawl["name"], crawl["videos"], crawl["labelled"], crawl["is_there"]) == ("clips", 14, 14, True)
    assert crawl["folder"] == str(small_crawl)
    assert all(stage["done"] == stage["total"] for stage in found["stages"])
    assert found["outcomes"] == {"decoded": 13, "unreadable": 1}
    for row in found["features"]:
        tables = [pq.read_table(file) for file in sorted((out / row["folder"]).glob("part-*.parquet"))]
        n_vectors = sum(len(table) - table.column("vector").null_count for table in tables)
        assert (row["parts"], row["videos"]) == (7, n_vectors)
        assert row["videos"] + row["missing"] + row["failed"] == 14
    by_name = {row["feature_set"]: row for row in found["features"]}
    assert (by_name["acoustic"]["missing"], by_name["acoustic"]["failed"]) == (3, 1)
    assert by_name["textual"]["failed"] == 0

    (run,) = found["runs"]
    metrics = json.loads((out / run["run"] / "metrics.json").read_text())
    assert (run["macro_f1"], run["test_videos"]) == (metrics["test"]["macro_f1"], metrics["test"]["n_rows"])
    low, high = run["micro_f1_interval"]
    assert 0 <= low <= run["micro_f1"] <= high <= 1
    assert high - low > 0.3  # four test videos tell little, even if all are right
    assert found["champion"] == run["run"]
    files = [file for file in out.rglob("*") if file.is_file() and not file.is_symlink() and file.name != ".lock"]
    inside = [file for file in files if not {"latest", "champion"} & set(file.relative_to(out).parts)]
    assert sum(found["bytes"].values()) == sum(file.stat().st_size for file in inside)
    assert found["next"]["command"].startswith("nmcl predict CRAWL --model")
    assert "everything is finished" in status.text(out)


def test_missing_parts_are_the_next_work(status: Status, out: Path, quick: Settings) -> None:
    (feature,) = (out / "features").glob("acoustic-*")
    sorted(feature.glob("part-*"))[2].unlink()
    found = status(out, code=6)
    assert found["next"]["command"] == f"nmcl evaluate --out {out}"
    assert found["next"]["why"] == "1 of 7 parts of acoustic are not extracted"
    runs.up_to(Context(Store.open(out), quick), "evaluate")
    assert not status(out)["next"]["is_unfinished"]


def test_other_settings_are_the_next_work(status: Status, out: Path, quick: Settings) -> None:
    other = replace(quick, model=ModelChoice("majority", options=MODELS["majority"].settings))
    remember(Store.open(out), other)
    found = status(out, code=6)
    assert found["next"]["why"] == "train has finished 0 of 1 models"
    runs.up_to(Context(Store.open(out), other), "evaluate")
    found = status(out)
    assert [run["run"].split("-")[0] for run in found["runs"]] == ["runs/majority", "runs/logistic"]

    media = replace(quick, media=replace(quick.media, max_seconds=2.0))
    remember(Store.open(out), media)
    found = status(out, code=6)
    assert found["next"]["why"] == "14 of 14 parts of acoustic, visual are not extracted"
    assert found["outcomes"] == {"waiting": 14}


def test_a_new_crawl_is_retrained_on(status: Status, out: Path, small_crawl: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (later / "new.mp4").write_bytes((small_crawl / "1.mp4").read_bytes() + b"\0" * 9)
    (later / "manifest.csv").write_text("path,venue\nnew.mp4,Beach")
    store = Store.open(out)
    stages.ingest(Context(store, of_store(store, {})), later)
    found = status(out, code=6)
    assert [crawl["name"] for crawl in found["crawls"]] == ["clips", "later"]
    assert found["next"]["command"] == f"nmcl retrain --out {out}"
    shutil.rmtree(later)
    assert status(out, code=6)["next"]["command"].startswith(f"nmcl relocate {later} NEW_FOLDER --out")


def test_an_early_state(status: Status, fitted: Path, tmp_path: Path) -> None:
    found = status(fitted, code=6)
    assert {stage["stage"]: (stage["done"], stage["total"]) for stage in found["stages"]} == {
        "ingest": (14, 14),
        "fit": (2, 2),
        "extract": (0, 21),
        "complete": (0, 7),
        "train": (0, 1),
        "evaluate": (0, 1),
    }
    assert found["next"]["command"] == f"nmcl evaluate --out {fitted}"
    Store.create(tmp_path / "empty")
    assert status(tmp_path / "empty", code=6)["next"]["command"].startswith("nmcl run CRAWL")
    assert "is not an nmcl store" in nmcl("status", "--out", tmp_path, code=2).stderr


def test_without_labels_the_features_are_all(
    status: Status, trained: Path, small_crawl: Path, quick: Settings, tmp_path: Path
) -> None:
    crawl, out = Path(shutil.copytree(small_crawl, tmp_path / "clips")), tmp_path / "out"
    rows = [line.rsplit(",", 1)[0] for line in (crawl / "manifest.csv").read_text().splitlines()]
    (crawl / "manifest.csv").write_text("\n".join(rows))
    context = Context(Store.create(out), replace(quick, features={"visual": quick.features["visual"]}))
    remember(context.store, context.settings)
    stages.ingest(context, crawl)
    tree = json.loads((out / "settings.json").read_text())
    tree["features"] |= {name: {"extractor": "none"} for name in ("acoustic", "textual", "words", "ngrams")}
    (out / "settings.json").write_text(json.dumps(tree))
    assert status(out, code=6)["next"]["command"] == f"nmcl extract --out {out}"
    for folder in [*trained.glob("features/visual-*"), *trained.glob("failures/*")]:
        name = folder.relative_to(trained)
        shutil.copytree(folder, out / name)
        shutil.copytree(trained / "metadata" / name, out / "metadata" / name)
    found = status(out)
    assert found["next"]["command"] == f"nmcl export --out {out} --format parquet --to features.parquet"
    assert "labels do not suffice" in found["next"]["why"]
    assert found["outcomes"] == {"decoded": 13, "unreadable": 1}


def test_a_store_of_an_early_version(status: Status, tmp_path: Path) -> None:
    with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    found = status(tmp_path / "out")
    assert all(stage["done"] == stage["total"] for stage in found["stages"])
    assert [(row["feature_set"], row["videos"], row["failed"]) for row in found["features"]] == [
        ("visual", 97, 1),
        ("acoustic", 90, 1),
        ("textual", 87, 0),
    ]
    assert found["champion"] == "runs/nmcl-e3f2a2dde9d6"
    assert not found["crawls"][0]["is_there"]
    assert all(run["macro_f1_interval"] for run in found["runs"])


def test_damage_is_a_finding(status: Status, out: Path) -> None:
    (feature,) = (out / "features").glob("visual-*")
    part = sorted(feature.glob("part-*"))[0]
    part.write_bytes(part.read_bytes()[:-20])
    found = status(out, code=6)
    assert part.name in found["problems"][0]
    assert found["next"]["command"] == f"nmcl verify --out {out}"
    (out / "catalogue.json").write_text("{}")
    assert len(status(out, code=6)["problems"]) == 1


def test_hostile_names_are_escaped(status: Status, out: Path) -> None:
    catalogue = json.loads((out / "catalogue.json").read_text())
    catalogue["crawls"][0] |= {"name": "a\x1b[2Jb", "folder": "/x\x1b]0;title\x07/$(reboot)"}
    (out / "catalogue.json").write_text(json.dumps(catalogue))
    assert "\x1b" not in status.text(out)
    shutil.rmtree(next((out / "features").glob("visual-*")))
    said = status.text(out)
    assert "\x1b" not in said
    assert "\x07" not in said


def test_loads_no_torch(out: Path) -> None:
    heavy = "('torch', 'torchvision', 'scipy', 'sklearn', 'prefect', 'cv2', 'matplotlib')"
    arguments = ["status", "--out", str(out)]
    code = f"import sys; from nmcl.flows.cli.main import app; app({arguments!r}, standalone_mode=False); "
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
