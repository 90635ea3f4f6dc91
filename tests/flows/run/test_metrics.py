"""`nmcl metrics`, parsed by Prometheus' own parser and compared with the store's files."""

import json
import shutil
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nmcl.flows.run.metrics import prometheus_text
from nmcl.flows.settings import Settings, from_tree
from nmcl.flows.stored_settings import of_store
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here
from tests.records import DRIFT

Samples = dict[tuple[str, tuple[str, ...]], float]


def parsed(text: str) -> Samples:
    """Value by name and the values of its labels, in the order of their names."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


def in_store(out: Path, settings: Settings | None = None) -> Samples:
    store = Store.open(str(out))
    return parsed(prometheus_text(store, settings or of_store(store, {})))


@pytest.fixture
def out(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "out", symlinks=True)


def test_the_numbers_are_those_of_the_files(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "collector" / "nmcl.prom"
    code, said, _ = nmcl_here("metrics", "--out", out, "--to", file, capsys=capsys, monkeypatch=monkeypatch)
    assert (code, said) == (0, "")
    assert [path.name for path in file.parent.iterdir()] == ["nmcl.prom"]
    found = parsed(file.read_text())
    history = json.loads((out / "champions.json").read_text())
    metrics = json.loads((out / history["champion"] / "metrics.json").read_text())
    for name in ("macro_f1", "micro_f1", "auc_macro"):
        assert found["nmcl_champion_score", (name,)] == metrics["test"][name]
    assert found["nmcl_champion_info", (history["champion"],)] == 1
    when = datetime.fromisoformat(history["history"][-1]["when"]).timestamp()
    assert found["nmcl_champion_timestamp_seconds", ()] == when
    for stage, seconds in metrics["seconds"].items():
        assert found["nmcl_stage_seconds", (stage,)] == seconds
    for split in ("train", "validation", "test", "unlabelled"):
        assert found["nmcl_split_videos", (split,)] == metrics["counts"][split]
    catalogue = json.loads((out / "catalogue.json").read_text())
    parts = [part for crawl in catalogue["crawls"] for part in crawl["parts"]]
    failures = [row for path in out.glob("failures/media-*/*.parquet") for row in pq.read_table(path).to_pylist()]
    whole = {row["video_id"] for row in failures if row["modality"] is None}
    assert found["nmcl_parts", ()] == len(parts)
    assert found["nmcl_videos", ("failed",)] == len(whole) == 1
    assert found["nmcl_videos", ("ok",)] == sum(part["n_videos"] for part in parts) - 1
    assert found["nmcl_failed_videos", ("unreadable",)] == 1
    assert found["nmcl_videos", ("pending",)] == 0
    assert {key: value for key, value in found.items() if key[0] == "nmcl_parts_unfinished"} == {
        ("nmcl_parts_unfinished", (name,)): 0 for name in ("visual", "acoustic", "textual")
    }
    assert not any(name.startswith("nmcl_drift") for name, _ in found)
    code, said, _ = nmcl_here("metrics", "--out", out, capsys=capsys, monkeypatch=monkeypatch)
    assert parsed(said) == found


def test_unfinished_parts_are_counted(out: Path) -> None:
    for pattern in ("features/visual-*/part-*.parquet", "failures/media-*/part-*.parquet"):
        for path in sorted(out.glob(pattern))[:2]:
            path.unlink()
    found = in_store(out)
    assert found["nmcl_parts_unfinished", ("visual",)] == 2
    assert found["nmcl_parts_unfinished", ("acoustic",)] == 0
    assert found["nmcl_videos", ("pending",)] > 0
    catalogue = json.loads((out / "catalogue.json").read_text())
    n_videos = sum(part["n_videos"] for crawl in catalogue["crawls"] for part in crawl["parts"])
    assert sum(value for (name, _), value in found.items() if name == "nmcl_videos") == n_videos


def test_a_store_without_a_run_or_a_crawl_has_the_rest(fitted: Path, tmp_path: Path) -> None:
    found = in_store(fitted)
    assert found["nmcl_parts_unfinished", ("visual",)] == found["nmcl_parts", ()] > 0
    assert found["nmcl_videos", ("ok",)] == 0
    assert not any(name.startswith(("nmcl_champion", "nmcl_stage")) for name, _ in found)
    Store.create(str(tmp_path / "empty"))
    assert in_store(tmp_path / "empty", from_tree({}))["nmcl_parts", ()] == 0


def test_drift_is_that_of_the_newest_note(out: Path) -> None:
    store = Store.open(str(out))
    Run(store, "drift/0123456789ab").write(DRIFT)
    found = in_store(out)
    note = json.loads((out / "drift/0123456789ab/drift.json").read_text())
    n = 0
    for subject, figures in note["figures"].items():
        for name, figure in figures.items():
            assert found.get(("nmcl_drift", (name, subject))) == figure["value"]
            assert found["nmcl_drift_limit", (name, subject)] == figure["limit"]
            assert found["nmcl_drift_exceeded", (name, subject)] == figure["exceeded"]
            n += 1
    assert n
    assert found["nmcl_drift_stopped", ()] == note["stopped"]
