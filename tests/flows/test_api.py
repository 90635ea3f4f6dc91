"""A store as `nmcl.open` gives it, compared with its files as other programs read them."""

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader
from typer.testing import CliRunner

import nmcl
from nmcl.flows.cli.main import app
from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.storage.store import Store
from tests.own import write_clips

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "store-28a06ff.tar.xz"
NAMES = ["visual", "acoustic", "textual"]


def command(*words: object) -> str:
    """What the command `nmcl` says if it fails."""
    return str(CliRunner().invoke(app, [str(word) for word in words]).exception or "")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """98 videos of three venues, some without sound or words; a champion and a former one."""
    folder = tmp_path_factory.mktemp("store")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "out"


@pytest.fixture(scope="module")
def store(out: Path) -> nmcl.StoreReader:
    return nmcl.open(out)


def stored(out: Path, kind: str, column: str) -> tuple[list[str], np.ndarray]:
    """Ids and vectors of the only part of an artifact, read without `nmcl`; NaN where null."""
    (path,) = out.glob(f"{kind}-*/part-*.parquet")
    table = pq.read_table(path)
    vectors = table.column(column)
    absent = np.full(vectors.type.list_size, np.nan, np.float32)
    rows = [absent if v is None else np.array(v, np.float32) for v in vectors.to_pylist()]
    return table.column("video_id").to_pylist(), np.stack(rows)


@pytest.fixture(scope="module")
def champion_splits(out: Path) -> dict[str, str]:
    """The split of each video of the champion's training, read without `nmcl`."""
    splits = pq.read_table(out / "champion" / "splits.parquet").to_pydict()
    by_hash = dict(zip(splits["sha256"], splits["split"], strict=True))
    (path,) = out.glob("videos/part-*.parquet")
    videos = pq.read_table(path).to_pylist()
    return {video["video_id"]: by_hash.get(video["sha256"]) for video in videos if video["venue"]}


def test_matrices_are_those_of_the_store(store: nmcl.StoreReader, out: Path) -> None:
    features = store.features()
    matrices = features.to_numpy()
    assert [*matrices] == features.names == NAMES
    for name, matrix in matrices.items():
        ids, vectors = stored(out, f"features/{name}", "vector")
        assert features.ids.tolist() == ids
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, vectors)
        assert features.dims[name] == vectors.shape[1]
        np.testing.assert_array_equal(features.observed[name], ~np.isnan(vectors[:, 0]))
    assert len(features) == 98
    assert not features.observed["acoustic"].all()


def test_chosen_sets_come_in_the_order_of_their_names(store: nmcl.StoreReader) -> None:
    features = store.features("textual", "visual")
    assert features.names == ["textual", "visual"]
    assert [*features.recipes] == ["textual", "visual"]
    assert any(folder.startswith("states/textual-") for folder in features.recipes["textual"])
    assert "98 videos" in repr(features)


def test_missing_vectors_are_completed_on_request(store: nmcl.StoreReader, out: Path) -> None:
    bare = store.features().to_numpy()
    for missing in ("zero", "completed"):
        for name, matrix in store.features(missing=missing).to_numpy().items():  # type: ignore[arg-type]
            gaps = np.isnan(bare[name][:, 0])
            np.testing.assert_array_equal(matrix[~gaps], bare[name][~gaps])
            _, completed = stored(out, "completed/all", name)
            expected = np.nan_to_num(completed) if missing == "completed" else np.zeros_like(completed)
            np.testing.assert_array_equal(matrix[gaps], expected[gaps])


def test_labels_and_splits_travel_along(store: nmcl.StoreReader, champion_splits: dict[str, str]) -> None:
    features = store.features("visual")
    labelled = features.labels != None  # noqa: E711  # elementwise
    assert {*features.ids[labelled]} == {*champion_splits}
    for video_id, split in zip(features.ids[labelled], features.splits[labelled], strict=True):
        assert split in (champion_splits[video_id], None)
    assert {*features.splits} == {"train", "validation", "test", None}
    assert features.classes == sorted({*features.labels[labelled]})
    assert {*store.features("visual", split="given").splits} == {None}
    assert any("Splits of runs/nmcl" in note for note in features.notes)


def test_tables_are_those_of_the_export(store: nmcl.StoreReader, tmp_path: Path, out: Path) -> None:
    command("export", "--out", out, "--format", "parquet", "--to", tmp_path / "f.parquet", "--missing", "nan")
    features = store.features()
    assert features.to_arrow().equals(pq.read_table(tmp_path / "f.parquet"))
    pd.testing.assert_frame_equal(features.to_pandas(), pd.read_parquet(tmp_path / "f.parquet"))


def test_batches_have_the_same_values(store: nmcl.StoreReader) -> None:
    features = store.features(missing="zero")
    dataset = features.to_torch("train", labelled=True, shuffle=True)
    wanted = np.flatnonzero(features.splits == "train")
    matrices, place = features.to_numpy(), {video_id: i for i, video_id in enumerate(features.ids)}
    seen = []
    for batch in DataLoader(dataset, batch_size=16):
        rows = [place[video_id] for video_id in batch["id"]]
        for name, vectors in batch["features"].items():
            assert vectors.dtype == torch.float32
            np.testing.assert_array_equal(vectors, matrices[name][rows])
            np.testing.assert_array_equal(batch["observed"][name], features.observed[name][rows])
        assert [dataset.classes[k] for k in batch["label"]] == features.labels[rows].tolist()
        seen += rows
    assert sorted(seen) == wanted.tolist()
    assert len(features.to_torch(["train", "test"], in_memory=True)) == sum(  # type: ignore[arg-type]
        split in ("train", "test") for split in features.splits
    )


def test_videos_are_the_catalogue(store: nmcl.StoreReader, out: Path) -> None:
    (path,) = out.glob("videos/part-*.parquet")
    catalogue, videos = pq.read_table(path), store.videos()
    for column in ("video_id", "crawl", "path", "sha256", "n_bytes", "description", "duplicate_of"):
        assert videos.column(column).to_pylist() == catalogue.column(column).to_pylist()
    assert videos.column("label").to_pylist() == catalogue.column("venue").to_pylist()
    assert videos.column("split").to_pylist() == store.features("visual").splits.tolist()
    assert videos.to_pandas().groupby("label").size().sum() == len(videos) - videos.column("label").null_count


def test_runs_have_their_scores(store: nmcl.StoreReader, out: Path) -> None:
    assert sorted(run.name.split("-")[0] for run in store.runs) == ["logistic", "nmcl"]
    assert [run.when for run in store.runs] == sorted(run.when for run in store.runs)
    for run in store.runs:
        metrics = json.loads((out / "runs" / run.name / "metrics.json").read_text())
        assert run.scores["macro_f1"] == metrics["test"]["macro_f1"]
        assert run.metrics is not None
        assert run.metrics.counts["videos"] == 98
    assert store.champion is not None
    assert store.champion == store.run("nmcl") == next(run for run in store.runs if run.name.startswith("nmcl"))
    assert store.champion.predictions.equals(pq.read_table(out / "champion" / "predictions.parquet"))
    assert re.fullmatch(r"Run\(nmcl-\w+, macro-F1 0\.\d{3}\)", repr(store.champion))


def test_a_run_names_its_own_features(store: nmcl.StoreReader) -> None:
    by_run = store.features(run="logistic")
    assert any("Features of runs/logistic" in note for note in by_run.notes)
    np.testing.assert_array_equal(by_run.to_numpy()["visual"], store.features().to_numpy()["visual"])


def test_what_cannot_be_read_is_said_as_on_the_command_line(out: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as found:
        nmcl.open(tmp_path / "nothing")
    assert command("runs", "--out", tmp_path / "nothing") == str(found.value)
    with pytest.raises(UserError) as other:
        nmcl.open(out).features("visul")
    to = tmp_path / "f.npz"
    assert command("export", "--out", out, "--format", "npz", "--to", to, "--features", "visul") == str(other.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda store: store.features(missing="mean"), "missing='mean': expected one of completed, zero, nan"),
        (lambda store: store.features(split="train"), "split='train': expected one of given, run"),
        (lambda store: store.features(run="nope"), "There is no run nope"),
        (lambda store: store.features().to_torch("dev"), "split='dev': expected one of train, validation, test"),
        (lambda store: store.videos(split="no"), "split='no': expected one of given, run"),
        (lambda store: store.champion.predict("nowhere"), "nowhere"),
        (lambda store: store.champion.predict("nowhere", ["text"]), "A crawl has its own descriptions"),
        (lambda store: store.champion.predict(["a.mp4"], ["x", "y"]), "Found 2 descriptions for 1 files"),
    ],
)
def test_other_arguments_are_described(store: nmcl.StoreReader, call, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=re.escape(said)):
        call(store)


def test_files_are_predicted_as_in_a_crawl(
    store: nmcl.StoreReader, out: Path, small_crawl: Path, tmp_path: Path
) -> None:
    """Three videos and a broken file, by path and as a crawl with a manifest: the same rows."""
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    paths = [crawl / name for name in ("7.mp4", "0.mp4", "5.mp4", "broken.mp4")]
    for path in paths:
        path.write_bytes((small_crawl / path.name).read_bytes())
    texts = ["snow ski ice", None, "sand sea sun", None]
    champion = store.champion
    assert champion is not None
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    by_path = champion.predict(paths, texts)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert by_path.column("video_id").to_pylist() == [str(path) for path in paths]
    assert by_path.column("status").to_pylist() == ["ok", "ok", "ok", "failed"]
    lines = [f"{path.name},{path.stem},{text or ''}" for path, text in zip(paths, texts, strict=True)]
    (crawl / "manifest.csv").write_text("\n".join(["path,video_id,description", *lines]))
    as_crawl = champion.predict(crawl)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} != before
    by_name = {row["video_id"]: row for row in as_crawl.to_pylist()}
    for path, row in zip(paths, by_path.to_pylist(), strict=True):
        for column, value in by_name[path.stem].items():
            if column != "video_id":
                assert row[column] == (pytest.approx(value, abs=1e-5) if isinstance(value, float) else value)


def as_rows(table: pa.Table) -> list[dict[str, object]]:
    """Rows without the columns that only a run writes for its own videos; probabilities to float32."""
    kept = [name for name in table.column_names if "_by_" not in name]
    rows = table.select(kept).to_pylist()
    return [{k: pytest.approx(v, abs=1e-5) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def test_the_videos_of_its_own_store_are_predicted_as_by_the_run(store: nmcl.StoreReader) -> None:
    """The crawl is not there: all vectors are in the store."""
    champion = store.champion
    assert champion is not None
    found, written = champion.predict(store), champion.predictions
    columns = [name for name in found.column_names if name in written.column_names]
    assert {"video_id", "status", "venue_1", "probability_1"} <= {*columns}
    assert found.select(columns).to_pylist() == as_rows(written.select(columns))


def test_the_videos_of_another_store_are_predicted_as_their_crawl(
    store: nmcl.StoreReader, small_crawl: Path, tmp_path: Path
) -> None:
    champion = store.champion
    assert champion is not None
    assert command("ingest", small_crawl, "--out", tmp_path / "other") == ""
    other = nmcl.open(tmp_path / "other")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "other").rglob("*")}
    found = champion.predict(other)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "other").rglob("*")} == before
    assert found.column("video_id").to_pylist() == other.videos().column("video_id").to_pylist()
    assert found.to_pylist() == as_rows(champion.predict(small_crawl))
    assert command("verify", "--out", store.url) == ""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "store.json").write_text('{"format": 1}')
    for videos, texts, said in (
        (nmcl.open(tmp_path / "empty"), None, r"has no crawl yet. Start with `nmcl ingest"),
        (other, ["a text"], "A store has its own descriptions"),
    ):
        with pytest.raises(UserError, match=said):
            champion.predict(videos, texts)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the sequences of pictures and sound, one clip in a part: three clips and a file that is none."""
    folder = tmp_path_factory.mktemp("kept")
    write_clips(folder / "clips", 3)  # the last has no sound
    (folder / "clips" / "broken.mp4").write_bytes(b"no video")
    autoencoder = {"layers": [8, 4], "epochs": 0, "fine_tune_epochs": 0, "min_steps": 0}
    features = {
        "visual": {"extractor": "efficientnet_lite0", "sequence": True},
        "acoustic": {"extractor": "sda", "sequence": True, "autoencoder": autoencoder},
        "textual": {"extractor": "none"},
        "pooled": {"extractor": "logmel"},
    }
    settings = {"features": features, "ingest": {"part_size": 1}, "media": {"max_failed_share": 1.0}}
    remember(Store.create(folder / "out"), from_tree(settings))
    assert command("extract", folder / "clips", "--out", folder / "out") == ""
    return folder


def test_sequences_are_those_of_the_store(kept: Path) -> None:
    features = nmcl.open(kept / "out").features(sequences=True)
    frame, matrices = features.to_pandas(), features.to_numpy()
    items = {item["id"]: item for item in features.to_torch()}
    in_memory = {item["id"]: item for item in features.to_torch(in_memory=True)}  # type: ignore[attr-defined]
    absent = {"visual": {"broken"}, "acoustic": {"broken", "2"}}
    for name in ("visual", "acoustic"):
        stored = {}
        for path in (kept / "out").glob(f"features/{name}-*/part-*.parquet"):
            (row,) = pq.read_table(path).to_pylist()
            stored[row["video_id"]] = row.get("sequence"), row.get("sequence_s")
        assert {*stored} == {*features.ids} == {"0", "1", "2", "broken"}
        for i, steps in enumerate(features.sequences(name)):
            video_id = features.ids[i]
            vectors, times = stored[video_id]
            assert (steps is None) == (vectors is None) == (video_id in absent[name])
            cells = frame[f"{name}_sequence"][i], frame[f"{name}_sequence_s"][i]
            for item in (items[video_id], in_memory[video_id]):
                assert item["sequences"][name].shape == (len(vectors or ()), features.dims[name])
                np.testing.assert_array_equal(
                    item["sequences"][name], np.reshape(vectors or [], (-1, features.dims[name]))
                )
                np.testing.assert_array_equal(item["times_s"][name], np.array(times or [], np.float32))
            if steps is None:
                assert cells == (None, None)
                continue
            for found, cell, expected in zip(steps, cells, (vectors, times), strict=True):
                np.testing.assert_array_equal(found, np.array(expected, np.float32))
                np.testing.assert_array_equal(np.stack(cell), found)
            np.testing.assert_allclose(steps.vectors.mean(axis=0), matrices[name][i], rtol=1e-4, atol=1e-5)
    assert {*items["0"]["sequences"]} == {"visual", "acoustic"}
    assert "sequences" not in next(iter(nmcl.open(kept / "out").features().to_torch()))
    with pytest.raises(UserError, match=r"sequences of pooled were not read, or it has none. Ask for store.features\("):
        features.sequences("pooled")
    with pytest.raises(UserError, match=r"no feature set 'visul'\. Did you mean visual\?"):
        features.sequences("visul")


def test_sequences_of_files_are_those_of_their_store(kept: Path) -> None:
    paths = [kept / "clips" / f"{name}.mp4" for name in ("2", "broken", "0")]
    sets = {"visual": {"extractor": "efficientnet_lite0", "sequence": True}, "pooled": {"extractor": "logmel"}}
    found = nmcl.extract(paths, sets)
    assert [*found.sequences] == ["visual"]
    features = nmcl.open(kept / "out").features("visual", sequences=True)
    of_store = dict(zip(features.ids, features.sequences("visual"), strict=True))
    for path, steps in zip(paths, found.sequences["visual"], strict=True):
        expected = of_store[path.stem]
        assert (steps is None) == (expected is None) == (path.stem == "broken")
        for here, there in zip(steps or (), expected or (), strict=True):
            np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)


def test_importing_is_fast_and_loads_no_heavy_package() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import nmcl; seconds = time.perf_counter() - start;"
        "heavy = {'torch', 'prefect', 'numpy', 'sklearn', 'pyarrow'} & {*sys.modules};"
        "assert not heavy, heavy; assert {*nmcl.__all__} <= {*dir(nmcl)}; print(seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2
    with pytest.raises(AttributeError, match="module 'nmcl' has no attribute 'opne'"):
        nmcl.opne  # noqa: B018


def test_every_public_name_can_be_had_without_prefect() -> None:
    code = (
        "import sys, nmcl; [getattr(nmcl, name) for name in nmcl.__all__];"
        "assert 'prefect' not in sys.modules; assert nmcl.open.__name__ == 'open_store'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_store_without_a_crawl_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": 1}')
    store = nmcl.open(tmp_path)
    assert (store.runs, store.champion) == ([], None)
    for read in (store.features, store.videos):
        with pytest.raises(StoreError, match=r"has no crawl yet. Start with `nmcl ingest"):
            read()
