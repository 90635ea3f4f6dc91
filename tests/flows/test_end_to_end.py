"""The commands, as a user types them, on the rendered sample crawl: real media, a real Prefect server, no doubles."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.flows.commands import nmcl_here

NMCL = str(Path(sys.executable).parent / "nmcl")
SETTINGS = [
    *("--set", "features.visual.extractor=efficientnet_lite0"),
    *("--set", "ingest.part_size=64"),
    *("--set", "features.acoustic.max_frames=3000"),
    *("--set", "features.acoustic.autoencoder.min_steps=200"),
    *("--set", "model.train.max_epochs=30"),
]
FEW = [
    *("--set", "ingest.part_size=8"),
    *("--set", "split.min_venue_videos=5"),
    *("--set", "features.acoustic.max_frames=200"),
    *("--set", "features.acoustic.autoencoder.epochs=1"),
    *("--set", "features.acoustic.autoencoder.fine_tune_epochs=1"),
    *("--set", "features.acoustic.autoencoder.min_steps=0"),
    *("--set", "completion.method=ridge"),
]


def nmcl(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"PREFECT_HOME": str(home)}
    return subprocess.run([NMCL, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def features(folder: Path) -> dict[str, bytes]:
    wanted = ("features", "completed", "failures")
    return {name: data for name, data in snapshot(folder).items() if name.startswith(wanted)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="module")
def out(sample_crawl: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run") / "out"
    done = nmcl("run", sample_crawl, "--out", folder, *SETTINGS, home=home)
    assert done.returncode == 0, done.stderr
    assert "Venue classification" in done.stdout
    assert str(folder / "latest" / "report.html") in done.stdout or "report.html" in done.stdout
    return folder


@pytest.fixture(scope="module")
def few(sample_crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty videos of the sample, and its file that is none."""
    folder = tmp_path_factory.mktemp("few") / "crawl"
    (folder / "videos").mkdir(parents=True)
    with (sample_crawl / "manifest.csv").open() as file:
        rows = [*csv.DictReader(file)]
    rows = [*rows[:40], next(row for row in rows if row["video_id"] == "broken")]
    with (folder / "manifest.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        shutil.copy(sample_crawl / row["video_path"], folder / row["video_path"])
    return folder


def test_metrics(out: Path) -> None:
    metrics = json.loads((out / "latest" / "metrics.json").read_text())
    for split in ("test", "validation"):
        assert {"micro_f1", "macro_f1", "auc_micro", "auc_macro", "top5"} <= metrics[split].keys()
    counts = metrics["counts"]
    assert counts["videos"] == 194
    assert (counts["failed"], counts["partial"]) == (0, 1)  # the broken file has a description
    assert counts["duplicates"] == 1
    assert counts["unlabelled"] == 12
    assert counts["missing_acoustic"] > 0
    assert counts["missing_textual"] > 0
    assert counts["train"] + counts["validation"] + counts["test"] == 194 - 12
    assert set(metrics["modality"]) == {"visual", "acoustic", "textual", "words", "ngrams"}
    assert metrics["test"]["micro_f1"] > 0.7
    assert set(metrics["seconds"]) == {"ingest", "fit", "extract", "complete", "train", "evaluate"}
    assert all(seconds > 0 for seconds in metrics["seconds"].values())
    assert metrics["settings"]["features"]["visual"]["extractor"] == "efficientnet_lite0"
    assert 0 < metrics["autoencoder"]["held_out_relative_error"] < 0.7
    methods = metrics["completion"]["held_out"]["nrmse"]
    assert set(methods) == {"als", "implicit", "mean", "ridge"}


def test_store(out: Path, sample_crawl: Path) -> None:
    for modality, dim in (("visual", 1280), ("acoustic", 200), ("textual", 100), ("words", 256), ("ngrams", 200)):
        (folder,) = (out / "features").glob(f"{modality}-*")
        table = pq.read_table([*folder.glob("part-*.parquet")])
        assert len(table) == 194
        assert table.schema.field("vector").type.list_size == dim
    (folder,) = (out / "failures").glob("media-*")
    failures = pq.read_table([*folder.glob("part-*.parquet")]).to_pylist()
    assert [(row["path"], row["kind"]) for row in failures] == [("videos/broken.mp4", "unreadable")]
    (folder,) = (out / "completed").glob("all-*")
    completed = pq.read_table([*folder.glob("part-*.parquet")])
    assert completed.column("acoustic").null_count == 0  # that of the broken file is filled in from its description
    assert completed.column("acoustic_observed").to_pylist().count(False) > 1
    page = (out / "latest" / "report.html").read_text()
    assert "rendered" in page
    predictions = pq.read_table(out / "latest" / "predictions.parquet")
    with (sample_crawl / "manifest.csv").open() as file:
        assert predictions.column("video_id").to_pylist() == [row["video_id"] for row in csv.DictReader(file)]


def test_self_training_uses_the_unlabelled_videos(out: Path, home: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(out, copy, symlinks=True)
    done = nmcl(
        "evaluate", "--out", copy, "--set", "model.name=logistic", "--set", "model.self_training=true", home=home
    )
    assert done.returncode == 0, done.stderr
    (run,) = (copy / "runs").glob("logistic-*")
    numbers = json.loads((run / "model.json").read_text())["diagnostics"]["self_training"]
    assert numbers["unlabelled"] == 12
    assert 0 < numbers["joined"] <= 12
    assert f"By self-training, {numbers['joined']} of 12 unlabelled videos" in (run / "README.md").read_text()


def test_again_does_no_work_and_changes_no_byte(out: Path, sample_crawl: Path, home: Path) -> None:
    before = snapshot(out)
    done = nmcl("run", sample_crawl, "--out", out, home=home)
    assert done.returncode == 0, done.stderr
    assert "Venue classification" in done.stdout
    assert "Nothing to do" in done.stdout
    assert "Total time" not in done.stdout
    assert snapshot(out) == before
    without = nmcl("run", "--out", out, home=home)
    assert without.returncode == 0, without.stderr
    assert "Nothing to do" in without.stdout
    stage = nmcl("evaluate", "--out", out, home=home)
    assert stage.returncode == 0, stage.stderr
    assert snapshot(out) == before


@pytest.mark.services
def test_killed_in_the_middle_and_run_again(few: Path, home: Path, tmp_path: Path) -> None:
    whole, again = tmp_path / "whole", tmp_path / "again"
    for folder in (whole, again):
        ingested = nmcl("ingest", few, "--out", folder, *SETTINGS, *FEW, home=home)
        assert ingested.returncode == 0, ingested.stderr
        assert "Beach" in ingested.stdout
    assert nmcl("complete", "--out", whole, home=home).returncode == 0
    command = [NMCL, "extract", "--out", str(again)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not [*again.glob("features/visual-*/part-*.parquet")]:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    n_done = len([*again.glob("features/visual-*/part-*.parquet")])
    assert 0 < n_done < 6
    done = nmcl("complete", "--out", again, home=home)
    assert done.returncode == 0, done.stderr
    assert features(again) == features(whole)


def test_predict(out: Path, few: Path, home: Path, tmp_path: Path) -> None:
    crawl, file = tmp_path / "new", tmp_path / "venues.parquet"
    shutil.copytree(few / "videos", crawl)
    (crawl / "notes.txt").write_text("not a video")
    predicted = nmcl("predict", crawl, "--model", out, "--out", file, home=home)
    assert predicted.returncode == 0, predicted.stderr
    table = pq.read_table(file)
    expected = [f"{kind}_{rank}" for kind in ("venue", "probability") for rank in range(1, 6)]
    assert table.column_names[:14] == ["video_id", "status", "venue", "split", *expected]
    rows = {row["video_id"]: row for row in table.to_pylist()}
    assert rows.keys() == {path.stem for path in crawl.glob("*.mp4")}
    assert rows["broken"]["status"] == "failed"
    assert rows["broken"]["venue_1"] is None
    good = [row for row in rows.values() if row["status"] == "ok"]
    assert len(good) == len(rows) - 1
    for row in good:
        shares = [row[f"probability_{rank}"] for rank in (1, 2, 3)]
        assert shares == sorted(shares, reverse=True)
        assert np.isclose(sum(shares), 1, atol=1e-5)
        assert row["venue_4"] is None
    run = nmcl("predict", crawl, "--model", out / "latest", "--out", tmp_path / "again.csv", home=home)
    assert run.returncode == 0, run.stderr
    assert len((tmp_path / "again.csv").read_text().splitlines()) == len(rows) + 1


def test_a_retrained_model_with_other_settings_keeps_the_old_run(out: Path, home: Path) -> None:
    old = (out / "latest").resolve()
    done = nmcl("evaluate", "--out", out, "--set", "model.name=logistic", home=home)
    assert done.returncode == 0, done.stderr
    assert (out / "latest").resolve() != old
    assert (old / "metrics.json").exists()


def test_ingest_keeps_the_stores_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = partial(nmcl_here, capsys=capsys, monkeypatch=monkeypatch)
    crawl, out = tmp_path / "crawl", tmp_path / "out"
    crawl.mkdir()
    (crawl / "a.mp4").write_bytes(b"a")
    assert here("ingest", crawl, "--out", out, *SETTINGS)[0] == 0
    before = (out / "settings.json").read_bytes()
    assert here("ingest", crawl, "--out", out)[0] == 0
    assert (out / "settings.json").read_bytes() == before
    status, _, stderr = here("ingest", crawl, "--out", out, "--set", "features.visual.key_frames=4")
    assert status == 0
    assert "features.visual.key_frames 8 -> 4." in stderr
    assert json.loads((out / "settings.json").read_text())["ingest"]["part_size"] == 64


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("absent", "There is no folder"),
        ("empty", "is empty"),
        ("one_venue", "at least two venues"),
        ("bad_row", "line 3"),
        ("unknown_setting", "Did you mean features.visual.extractor"),
        ("nested_out", "is inside the crawl"),
        ("foreign_out", "neither empty nor an nmcl store"),
        ("no_store", "is not an nmcl store"),
        ("no_store_to_run", "is not an nmcl store"),
        ("no_format", "ends in .parquet or .csv"),
        ("no_weights", "three options"),
        ("nothing_decodes", "None of the 2 videos has a usable modality"),
    ],
)
def test_errors_have_no_trace_and_say_what_to_do(
    prepare: str,
    message: str,
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = partial(nmcl_here, capsys=capsys, monkeypatch=monkeypatch)
    crawl, out = tmp_path / "crawl", tmp_path / "out"
    arguments: list[str | Path] = ["ingest", crawl, "--out", out]
    if prepare != "absent":
        crawl.mkdir()
    if prepare not in ("absent", "empty"):
        (crawl / "a.mp4").write_bytes(b"a")
        (crawl / "b.mp4").write_bytes(b"b")
    match prepare:
        case "one_venue":
            (crawl / "manifest.csv").write_text("path,venue\na.mp4,Beach\nb.mp4,Beach\n")
            arguments[0] = "run"
        case "bad_row":
            (crawl / "manifest.csv").write_text("path,venue\n../a.mp4,Beach\n../b.mp4,Beach\n")
        case "unknown_setting":
            arguments += ["--set", "features.visual.extracter=resnet50"]
        case "nested_out":
            arguments[-1] = crawl / "out"
        case "foreign_out":
            out.mkdir()
            (out / "thesis.tex").write_text("years")
        case "no_store":
            arguments = ["extract", "--out", out]
        case "no_store_to_run":
            arguments = ["run", "--out", out]
        case "no_format":
            arguments = ["predict", crawl, "--model", out, "--out", tmp_path / "venues.txt"]
        case "nothing_decodes":
            assert here(*arguments)[0] == 0
            arguments = ["complete", "--out", out, *SETTINGS[:2]]
        case "no_weights":
            monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
            monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
            arguments[0] = "extract"
    if prepare == "one_venue":  # within a flow
        done = nmcl(*arguments, home=home)
        status, stderr = done.returncode, done.stderr
    else:
        status, _, stderr = here(*arguments)
    assert status == 2, stderr
    assert message in stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] != ""
    if prepare in ("absent", "no_weights"):  # nothing is hashed or made
        assert not out.exists()


@pytest.mark.parametrize(
    "command", ["run", "ingest", "fit", "extract", "complete", "train", "evaluate", "predict", "sample"]
)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, stdout, _ = nmcl_here(command, "--help", capsys=capsys, monkeypatch=monkeypatch)
    assert status == 0
    assert f"nmcl {command}" in stdout
    assert "Examples" in stdout


@pytest.mark.services
def test_a_study_of_the_stores_features(out: Path, home: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    small = ("--methods", "logistic,majority", "--seeds", "2", "--skip", "completion,modalities,absence")
    done = nmcl("reproduce", "--store", out, "--out", study, *small, home=home)
    assert done.returncode == 0, done.stderr
    results = json.loads((study / "results.json").read_text())
    counts = json.loads((out / "latest" / "metrics.json").read_text())["counts"]
    assert results["rows"] == {split: counts[split] for split in ("train", "validation", "test")}
    assert results["dims"] == {"acoustic": 200, "ngrams": 200, "textual": 100, "visual": 1280, "words": 256}
    assert results["methods"]["logistic"]["micro_f1"]["mean"] > 0.7
    assert results["methods"]["logistic"]["micro_f1"]["std"] == 0.0  # the store's split, whatever the seed
