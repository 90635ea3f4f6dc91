"""The story of single videos of a store with real clips: with sound and without, broken, and gone."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nmcl.flows.run.explain import Story, explain
from nmcl.flows.run.stored import find_video, stored_sets
from nmcl.pipeline.storage.artifacts import digest, hashed_part
from nmcl.pipeline.storage.store import Store
from tests.flows.run.earlier import unpacked


def story(store: Store, name: str) -> Story:
    return explain(stored_sets(store, None), find_video(store, name))


def test_a_whole_video(trained: Path) -> None:
    store = Store.open(trained)
    found = story(store, "1")
    assert (found.crawl, found.video_id, found.label, found.file_state) == ("clips", "1", "Slope", "here")
    assert found.header is not None
    assert (found.header.width, found.header.height, found.header.sound_codec) == (96, 64, "aac")
    assert found.header.duration_s == pytest.approx(0.8, abs=0.1)
    assert {o.modality: o.outcome for o in found.outcomes} == {"visual": "ok", "acoustic": "ok", "textual": "ok"}
    assert {v.feature_set: v.origin for v in found.vectors} == dict.fromkeys(
        ("visual", "acoustic", "textual"), "observed"
    )
    for vector in found.vectors:
        assert vector.artifact.endswith(digest(hashed_part(dict(vector.recipe))))
        written = pq.read_table(trained / vector.artifact / f"part-{found.part}.parquet").to_pylist()[found.row]
        assert written["video_id"] == "1"
        assert vector.length == len(written["vector"])
    (predicted,) = (
        row for row in pq.read_table(trained / "champion" / "predictions.parquet").to_pylist() if row["video_id"] == "1"
    )
    assert [(v.label, v.probability) for v in found.top] == [
        (predicted[f"venue_{i}"], predicted[f"probability_{i}"]) for i in (1, 2)
    ]
    votes = {v.feature_set: v.vote.label for v in found.vectors if v.vote}
    assert votes == {name: predicted[f"venue_by_{name}"] for name in ("visual", "acoustic", "textual")}
    assert found.split == predicted["split"]
    recipe = found.vectors[0].recipe["decoding"]
    assert found.decoding == {**recipe, "max_seconds": 180, "max_pixels": 8192 * 4608, "budget_megapixels": 12_000}
    (images,) = (
        row
        for part in (trained / "thumbnails").glob("*/*.parquet")
        for row in pq.read_table(part).to_pylist()
        if row["video_id"] == "1"
    )
    assert list(found.thumbnails_s) == images["times_s"]
    assert len(found.thumbnails_s) == len(images["images"]) > 0
    assert {n.split for n in found.nearest} == {"train"}
    assert "1" not in {n.video_id for n in found.nearest}


def test_what_is_absent_was_completed_from_the_others(trained: Path) -> None:
    found = story(Store.open(trained), "0")  # neither sound nor words
    outcomes = {o.modality: o for o in found.outcomes}
    assert (outcomes["acoustic"].outcome, outcomes["acoustic"].remark) == ("absent", "the file has no soundtrack")
    assert outcomes["textual"].remark == "There is no description."
    vectors = {v.feature_set: v for v in found.vectors}
    state = json.loads(next((trained / "states").glob("completion-*/state.json")).read_text())
    assert vectors["acoustic"].origin == "completed"
    assert vectors["acoustic"].completed_by == state["method"]
    assert vectors["acoustic"].completed_from in ((), ("visual",))
    assert vectors["acoustic"].vote is None
    assert vectors["visual"].origin == "observed"


def test_a_broken_file(trained: Path) -> None:
    found = story(Store.open(trained), "broken")
    outcomes = {o.modality: o for o in found.outcomes}
    assert outcomes["visual"].outcome == outcomes["acoustic"].outcome == "unreadable"
    assert "not a media file" in str(outcomes["visual"].remark)
    assert outcomes["textual"].remark == "No word of its text is known to the extractor."
    assert {v.origin for v in found.vectors} == {"missing"}
    assert "has no fused vector" in found.notes[0]
    assert found.header is None
    assert str(found.header_problem).startswith("unreadable")


@contextmanager
def limited(store: Store, seconds: float) -> Iterator[None]:
    """Change the limit that is written down with the feature sets."""
    files = list(store.local_path("metadata").rglob("features/*/recipe.json"))
    kept = {file: file.read_bytes() for file in files}
    for file in files:
        recipe = json.loads(file.read_bytes())
        if "media" in recipe["settings_in_full"]:
            recipe["settings_in_full"]["media"]["max_seconds"] = seconds
        file.write_text(json.dumps(recipe))
    yield
    for file, data in kept.items():
        file.write_bytes(data)


def test_a_limit_that_cut_it(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "out", symlinks=True)
    store = Store.open(tmp_path / "out")
    with limited(store, 0.25):
        header = story(store, "1").header
    assert header is not None
    assert header.limits[0].startswith("Only the first 0.25 s of 0.")


def test_a_store_without_a_run(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "out", symlinks=True)
    for name in ("runs", "champion", "latest", "champions.json"):
        path = tmp_path / "out" / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    found = story(Store.open(tmp_path / "out"), "1")
    assert (found.run, found.top, found.nearest) == (None, (), ())
    assert "has no run yet" in found.notes[1]
    assert {v.origin for v in found.vectors} == {"observed"}


def test_a_store_of_an_early_version(tmp_path: Path) -> None:
    found = story(unpacked(tmp_path), "v0003")
    assert (found.file_state, found.label, found.split) == ("missing", "Street", "train")
    assert found.top[0].label == "Street"
    assert len(found.nearest) == 5
    assert all(v.artifact.endswith(digest(hashed_part(dict(v.recipe)))) for v in found.vectors)
