"""`nmcl errors`, `nmcl retry`, and the exit code of a crawl of which too much failed."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from nmcl.flows.run import stages
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.failures import WHAT_TO_DO
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl


@pytest.fixture(scope="module")
def crawl(small_crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve whole clips, five broken ones with words, and a row without a path."""
    crawl = tmp_path_factory.mktemp("failed") / "clips"
    shutil.copytree(small_crawl, crawl)
    with (crawl / "manifest.csv").open("a") as manifest:
        for i in range(4):
            (crawl / f"broken-{i}.mp4").write_bytes(b"no video")
            manifest.write(f"\nbroken-{i}.mp4,=words of {i},")
        manifest.write("\n,nobody,Beach")
    return crawl


@pytest.fixture(scope="module")
def out(crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which all of it was extracted while one file was away: 6 of 18 videos failed."""
    out = tmp_path_factory.mktemp("failed-out") / "out"
    settings = replace(quick, ingest=replace(quick.ingest, part_size=9))
    context = Context(Store.create(out), settings)
    remember(context.store, settings)
    stages.ingest(context, crawl)
    away = (crawl / "3.mp4").rename(crawl.parent / "3.mp4")
    done = nmcl("extract", "--out", out, code=3)
    away.rename(crawl / "3.mp4")
    assert "6 of 18 videos have neither picture nor sound" in done.stderr
    assert "media.max_failed_share=0.2" in done.stderr
    assert "Failed: unreadable 5, missing 1" in done.stdout
    return out


def said(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_one_row_a_kind(out: Path) -> None:
    rows = json.loads(said("errors", "--out", out, "--json"))
    assert [(row["kind"], row["count"], row["modality"]) for row in rows] == [
        ("unreadable", 5, "visual, acoustic"),
        ("missing", 1, "visual, acoustic"),
        ("rejected", 1, ""),
    ]
    assert all(row["what_to_do"] == WHAT_TO_DO[row["kind"]] for row in rows)
    assert rows[0]["example"].startswith("broken")
    assert "line 20" in rows[2]["example"]
    table = list(csv.DictReader(io.StringIO(said("errors", "--out", out, "--csv"))))
    assert [row["kind"] for row in table] == ["unreadable", "missing", "rejected"]
    assert "unreadable" in said("errors", "--out", out)


def test_one_row_a_video(out: Path) -> None:
    rows = json.loads(said("errors", "--out", out, "--kind", "unreadable", "--json"))
    assert [row["video_id"] for row in rows] == ["broken", *(f"broken-{i}" for i in range(4))]
    assert {row["attempts"] for row in rows} == {1}
    (row,) = csv.DictReader(io.StringIO(said("errors", "--out", out, "--kind", "missing", "--csv")))
    assert (row["video_id"], row["path"], row["crawl"]) == ("3", "3.mp4", "clips")
    assert said("errors", "--out", out, "--kind", "timeout").strip() == "No failures."
    done = CliRunner().invoke(app, ["errors", "--out", str(out), "--kind", "nonsense"])
    assert "no such kind of failure. Expected one of changed, crashed," in str(done.exception)


def test_a_share_that_is_allowed(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    assert said("extract", "--out", tmp_path / "out", "--set", "media.max_failed_share=0.3")


def test_retry_tries_what_is_asked_for(out: Path, crawl: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out")
    output = said("retry", "--out", tmp_path / "out", "--kind", "missing")
    assert "Retried: 1; recovered: 1; still failed: 0." in output
    output = said("retry", "--out", tmp_path / "out")
    assert "Retried: 5; recovered: 0; still failed: 5." in output
    rows = json.loads(said("errors", "--out", tmp_path / "out", "--kind", "unreadable", "--json"))
    assert {row["attempts"] for row in rows} == {2}
    done = CliRunner().invoke(app, ["retry", "--out", str(tmp_path / "out"), "--kind", "nonsense"])
    assert "no such kind of failure" in str(done.exception)
