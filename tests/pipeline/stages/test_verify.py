"""Whatever is damaged in a store is found; what `repair` removes can be made again."""

import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.stages.ingest import IngestSettings, ingest
from nmcl.pipeline.stages.verify import Findings, open_to_verify, repair, verify
from nmcl.pipeline.storage.artifacts import add_digest
from nmcl.pipeline.storage.catalogue import TRAINING
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import CHAMPIONS, Store
from nmcl.pipeline.storage.tables import encode
from tests.records import COMPARISON, DRIFT

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of commit 28a06ff: no digests, and a crawl that is not there."""
    folder = tmp_path_factory.mktemp("whole")
    with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "out"


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    shutil.copytree(whole, tmp_path / "out", symlinks=True)
    return Store.open(tmp_path / "out")


def found(store: Store) -> Findings:
    return verify(open_to_verify(store.root), n_sources=4)


def test_a_whole_store(store: Store) -> None:
    findings = found(store)
    assert findings.problems == []
    assert findings.checked["runs"] == 2
    assert any("were not read again" in note for note in findings.notes)


@pytest.mark.parametrize(
    ("pattern", "is_repairable"),
    [
        ("features/visual-*/part-*.parquet", True),
        ("features/acoustic-*/recipe.json", True),
        ("completed/*/part-*.parquet", True),
        ("failures/*/part-*.parquet", True),
        ("states/acoustic-*/state.safetensors", True),
        ("states/textual-*/state.json", True),
        ("states/completion-*/recipe.json", True),
        ("runs/logistic-*/model.safetensors", True),
        ("runs/logistic-*/model.json", True),
        ("runs/logistic-*/predictions.parquet", True),
        ("runs/nmcl-*/predictions.parquet", False),
        ("runs/nmcl-*/model.safetensors", True),
        ("videos/files-*.parquet", True),
        ("timings/fit-*.json", True),
        ("catalogue.json", False),
        ("champions.json", False),
        ("settings.json", False),
        ("store.json", False),
    ],
)
def test_a_file_cut_short(store: Store, pattern: str, is_repairable: bool) -> None:
    (path,) = store.local_path().glob(pattern)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    findings = found(store)
    name = str(path.relative_to(store.local_path()))
    assert any(name.startswith(problem.file) or problem.file in name for problem in findings.problems)
    if is_repairable:
        assert repair(store, findings) > 0
        left = [problem.file for problem in found(store).problems]
        assert left == (["champions.json"] if "nmcl-" in pattern else [])  # a champion must be chosen by a person


@pytest.mark.parametrize(
    ("pattern", "is_repairable"),
    [
        ("store.json", False),
        ("catalogue.json", False),
        ("champions.json", False),
        ("settings.json", False),
        ("timings/fit-*.json", True),
        ("features/acoustic-*/recipe.json", True),
        ("states/completion-*/state.json", True),
        ("states/completion-*/recipe.json", True),
        ("runs/logistic-*/model.json", True),
        ("runs/logistic-*/metrics.json", True),
        ("runs/logistic-*/recipe.json", True),
        ("runs/logistic-*/settings.json", True),
        ("runs/logistic-*/catalogue.json", False),
    ],
)
def test_an_empty_object(store: Store, pattern: str, is_repairable: bool) -> None:
    (path,) = store.local_path().glob(pattern)
    path.write_text("{}\n")
    findings = found(store)
    name = str(path.relative_to(store.local_path()))
    (problem,) = [p for p in findings.problems if name.startswith(p.file) or p.file.startswith(name)]
    assert bool(problem.removes) == is_repairable


@pytest.mark.parametrize("name", ["drift.json", "comparison.json"])
@pytest.mark.parametrize("folder", ["runs/logistic-d9b5cb574cd1", "drift/0123456789ab"])
def test_notes_of_a_retraining(store: Store, folder: str, name: str) -> None:
    run = Run(store, folder)
    run.write(DRIFT)
    run.write(COMPARISON)
    assert found(store).problems == []
    store.write(f"{folder}/{name}", b"{}")
    findings = found(store)
    assert [problem.file for problem in findings.problems] == [f"{folder}/{name}"]
    repair(store, findings)
    assert found(store).problems == []


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"libraries": ["torch"]}'])
def test_what_a_run_was_made_with(store: Store, content: bytes) -> None:
    name = f"runs/{store.list('runs')[0]}/made_with.json"
    store.write_json(name, {"version": "1", "libraries": {"torch": "2"}})
    assert verify(store).problems == []
    store.write(name, content)
    (problem,) = verify(store).problems
    assert (problem.file, problem.removes) == (name, (name,))
    repair(store, verify(store))
    assert verify(store).problems == []


def test_damaged_metrics_do_not_cost_the_model(store: Store) -> None:
    (path,) = store.local_path().glob("runs/logistic-*/metrics.json")
    path.write_text("{}")
    repair(store, found(store))
    assert not path.exists()
    assert (path.parent / "model.safetensors").exists()


def test_a_champion_that_is_not_the_last_of_the_history(store: Store) -> None:
    tree = store.read_json(CHAMPIONS)
    store.write_json(CHAMPIONS, {**tree, "champion": tree["history"][0]["run"]})
    (problem,) = found(store).problems
    assert "is not the run of the last entry" in problem.problem


def test_rejected_rows_of_another_shape(store: Store) -> None:
    name = "videos/rejected-monday.parquet"
    store.write(name, encode(pa.table({"line": [3]})))
    (problem,) = found(store).problems
    assert problem.file == name
    assert "0 columns 'video_id'" in problem.problem


def test_rows_of_the_catalogue_are_made_again(tmp_path: Path) -> None:
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    for i in range(7):
        (crawl / f"{i}.mp4").write_bytes(bytes([i]))
    store = Store.create(tmp_path / "out")
    settings = IngestSettings(part_size=2)
    before = ingest(store, crawl, ColumnSettings(), settings)
    for number in (1, 2):
        store.local_path(before.crawls[0].parts[number].file).write_bytes(b"damaged")
    assert repair(store, found(store)) == 2
    assert set(ingest(store, crawl, ColumnSettings(), settings).crawls[0].parts) == set(before.crawls[0].parts)
    assert found(store).problems == []


def test_a_flipped_bit_is_found_by_the_digest(store: Store) -> None:
    (path,) = store.local_path().glob("features/visual-*/part-*.parquet")
    name = str(path.relative_to(store.local_path()))
    add_digest(store, name)
    assert found(store).problems == []
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (problem,) = [p for p in found(store).problems if p.file == name]
    assert "SHA-256" in problem.problem
    assert any(removed.startswith("completed/") for removed in problem.removes)


def test_a_catalogue_that_is_gone(store: Store) -> None:
    store.remove(TRAINING)
    (problem,) = [p for p in found(store).problems if p.file == TRAINING]
    assert "missing" in problem.problem
    assert "Ingest the crawls again" in problem.what_to_do


def test_rows_of_another_part(store: Store) -> None:
    (visual,) = store.local_path().glob("features/visual-*/part-*.parquet")
    (textual,) = store.local_path().glob("features/textual-*/part-*.parquet")
    shutil.copy(visual, textual)
    assert [p.file for p in found(store).problems if p.file.startswith("completed/")]
