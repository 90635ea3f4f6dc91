"""A store with other feature sets than the paper's three, from extraction to prediction."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.sparse import vstack
from typer.testing import CliRunner

from nmcl.extractors.ngrams import NgramExtractor, NgramSettings
from nmcl.flows.cli.main import app
from nmcl.flows.cli.study import stored_features
from nmcl.flows.retrain.context import Options, prepare, settings_for
from nmcl.flows.retrain.retrain import Callbacks, retrain
from nmcl.flows.run.evaluation import dataset, labels_of, rows_of
from nmcl.flows.run.run_page import name_of
from nmcl.flows.run.stages import Context, ingest
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import merged
from nmcl.flows.stored_settings import of_store, remember
from nmcl.model.registry import MODELS, method
from nmcl.model.trained import fit
from nmcl.pipeline.records import Clip
from nmcl.pipeline.stages.complete import load_completed
from nmcl.pipeline.stages.vectors import load_terms
from nmcl.pipeline.storage.artifacts import load_state
from nmcl.pipeline.storage.store import Store
from tests.media import shades, tone, write_video

SETS = {
    "acoustic": {"extractor": "none"},
    "frames": {"extractor": "efficientnet_lite0", "weights": "random", "sequence": True},
    "words": {"extractor": "paragraph_vectors", "dim": 12, "min_words": 1000},
    "ngrams": {"extractor": "ngrams", "dim": 6, "max_terms": 500},
}
NAMES = ["visual", "textual", "frames", "words", "ngrams"]


def nmcl(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.stderr, done.exception)
    return done.output


@pytest.fixture(scope="module")
def out(small_crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run on five sets."""
    out = tmp_path_factory.mktemp("sets") / "out"
    remember(Store.create(out), from_tree(merged(to_tree(quick), {"features": SETS})))
    nmcl("ingest", small_crawl, "--out", out)
    nmcl("evaluate", "--out", out)
    return out


def test_every_set_is_extracted_completed_and_used(out: Path) -> None:
    assert sorted(path.name.rsplit("-", 1)[0] for path in (out / "features").iterdir()) == sorted(NAMES)
    (folder,) = (out / "completed").iterdir()
    tables = [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    for table in tables:
        columns = {c for name in NAMES for c in (name, f"{name}_observed")}
        assert set(table.column_names) == {"video_id", "ngrams_terms", "ngrams_term_weights", *columns}
    model = json.loads((out / "latest" / "model.json").read_text())
    assert model["dims"] == {"frames": 1280, "ngrams": 6, "textual": 100, "visual": 1280, "words": 12}
    assert set(json.loads((out / "latest" / "metrics.json").read_text())["modality"]) == set(NAMES)


def test_one_decode_gave_both_networks_the_same_frames(out: Path) -> None:
    first, other = (sorted((out / "features").glob(f"{name}-*"))[0] for name in ("visual", "frames"))
    for path in sorted(first.glob("part-*.parquet")):
        tables = [pq.read_table(folder / path.name) for folder in (first, other)]
        assert tables[0].column("key_frames_s") == tables[1].column("key_frames_s")
        for vector, sequence in zip(*(tables[1].column(c).to_pylist() for c in ("vector", "sequence")), strict=True):
            assert (vector is None) == (sequence is None)
            if vector is not None:
                np.testing.assert_allclose(np.mean(sequence, axis=0), vector, rtol=1e-4, atol=1e-5)


def test_terms_reach_the_model_and_the_study(out: Path) -> None:
    store = Store.open(out)
    plan = Context(store, of_store(store, {})).plan()
    completed, labels = load_completed(store, plan.catalogue, plan.completed), labels_of(plan)
    assert list(completed.terms) == ["ngrams"]
    terms = completed.terms["ngrams"]
    state = load_state(store, plan.states["ngrams"])
    alone = plan.features["ngrams"]
    extracted = [load_terms(store, alone, part) for _, part in plan.catalogue.parts()]
    clips = [Clip(text=video.description) for video in plan.videos]
    expected = NgramExtractor(NgramSettings(dim=6, max_terms=500)).extract(clips, state)
    assert expected.terms is not None
    for found in (terms, vstack(extracted)):
        np.testing.assert_array_equal(found.toarray(), expected.terms.toarray())
    np.testing.assert_array_equal(completed.observed["ngrams"], ~np.isnan(expected.vectors[:, 0]))
    rows = rows_of(plan, completed, "train")
    np.testing.assert_array_equal(dataset(completed, labels, rows).terms["ngrams"].toarray(), terms[rows].toarray())
    table = stored_features(out)
    of_table = [next(i for i, video in enumerate(plan.videos) if name_of(video) == name) for name in table.names]
    np.testing.assert_array_equal(table.terms["ngrams"].toarray(), terms[of_table].toarray())
    assert stored_features(out, ("words",)).terms == {}


def test_changed_terms_are_found(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "out", symlinks=True)
    (folder,) = (tmp_path / "out" / "completed").iterdir()
    path = sorted(folder.glob("part-*.parquet"))[0]
    table = pq.read_table(path)
    at = table.column_names.index("ngrams_term_weights")
    halved = [weights and [weight / 2 for weight in weights] for weights in table.column(at).to_pylist()]
    pq.write_table(table.set_column(at, table.field(at), pa.array(halved, table.field(at).type)), path)
    for digest in (tmp_path / "out" / "metadata").rglob(f"{path.name}.sha256"):
        if digest.parent.name == folder.name:
            digest.unlink()
    done = CliRunner().invoke(app, ["verify", "--out", str(tmp_path / "out")])
    assert done.exit_code == 6
    assert "ngrams term weights differ from the extracted ones" in done.output + done.stderr


def test_it_is_verified_and_predicts(out: Path, small_crawl: Path, tmp_path: Path) -> None:
    nmcl("verify", "--out", out)  # exits with 6 if it finds anything
    nmcl("predict", small_crawl, "--model", out, "--out", tmp_path / "venues.parquet")
    predicted = pq.read_table(tmp_path / "venues.parquet").to_pydict()
    own = pq.read_table(out / "latest" / "predictions.parquet").to_pydict()
    assert predicted["video_id"] == own["video_id"]
    assert predicted["venue_1"] == own["venue_1"]


SIX_SETS = {
    "frames": {"extractor": "efficientnet_lite0", "weights": "random", "key_frames": 2},
    "loudness": {"extractor": "logmel", "bands": 16},
    "words": {"extractor": "ngrams", "dim": 6, "max_terms": 500},
}
SIX = ["visual", "acoustic", "textual", "frames", "loudness", "words"]


@pytest.fixture(scope="module")
def six(small_crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run on two sets of each modality."""
    out = tmp_path_factory.mktemp("six") / "out"
    changes = {"features": SIX_SETS, "completion": {"method": "mean"}}  # choosing one takes minutes
    remember(Store.create(out), from_tree(merged(to_tree(quick), changes)))
    nmcl("ingest", small_crawl, "--out", out)
    nmcl("evaluate", "--out", out)
    return out


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in MODELS if name != "dare"])  # which needs tagged sounds
def test_every_model_is_trained_on_six_sets(name: str, six: Path) -> None:
    store = Store.open(six)
    plan = Context(store, of_store(store, {})).plan()
    completed, labels = load_completed(store, plan.catalogue, plan.completed), labels_of(plan)
    train, validation = (dataset(completed, labels, rows_of(plan, completed, split)) for split in SPLITS_TO_FIT)
    settings = method(name).settings
    if hasattr(settings, "train"):
        settings = replace(settings, train=replace(settings.train, max_epochs=2))
    trained = fit(name, train, validation, plan.splits.classes, settings)
    assert set(trained.dims) == set(SIX)
    rows = completed.take(completed.usable)
    probability = trained.predict(rows.modalities, rows.observed, rows.terms).probability
    assert probability.shape == (14, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-4)
    if name != "majority":
        assert len(np.unique(probability, axis=0)) > 1


SPLITS_TO_FIT = ("train", "validation")


@pytest.mark.long
def test_run_report_and_drift_have_six_sets(six: Path, tmp_path: Path) -> None:
    """The later crawl has no sound above a whisper and only white pictures: all four sets of media drift."""
    store = Store.open(six)
    metrics = json.loads((six / "latest" / "metrics.json").read_text())
    assert set(metrics["modality"]) == set(SIX)
    page = (six / "latest" / "report.html").read_text()
    assert all(name in page for name in SIX)
    later = tmp_path / "later"
    later.mkdir()
    lines = ["path,description,venue"]
    for i in range(12):
        quiet = (tone(300 + 10 * i, 0.8) // 1000).astype(np.int16)
        write_video(later / f"{i}.mp4", shades([255, 254 - i], 4), sound=quiet)
        lines.append(f"{i}.mp4,sand sea sun {i},{('Beach', 'Slope')[i % 2]}")
    (later / "manifest.csv").write_text("\n".join(lines))
    options = Options(allow_drift=True)
    context = settings_for(Context(store, from_tree({})), {}, options)
    ingest(context, later)
    inputs = prepare(context, [later], options)
    retrain(context, inputs, Callbacks())
    note = inputs.notes.drift
    assert note is not None
    assert set(note.figures) == {"files", "labels", *SIX}
    assert {name for name in SIX if note.figures[name]} == set(SIX)
    for name in ("visual", "frames", "acoustic", "loudness"):
        found = note.figures[name]["mmd"]
        assert found.value is not None, note.figures
        assert found.null_mean is not None
        assert found.value - found.null_mean > found.limit
        assert found.p_value is not None
        assert found.p_value < 0.01  # the smallest of 100 permutations; too few videos to stop a retraining
