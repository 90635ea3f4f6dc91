"""Nearest videos and near-duplicates, against scikit-learn on all vectors at once."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from nmcl.flows.run import duplicates, similar
from nmcl.flows.run.duplicates import near_duplicates
from nmcl.flows.run.similar import Space, nearest, vectors_of
from nmcl.flows.run.stored import all_videos, find_video, stored_sets
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.records import Video
from nmcl.pipeline.stages.complete import load_completed, load_features
from nmcl.pipeline.storage.artifacts import Artifact
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, Crawl, make_part, save_catalogue
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_vectors
from tests.flows.run.earlier import unpacked


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return unpacked(tmp_path)


def unit(vectors: np.ndarray) -> np.ndarray:
    standardised: np.ndarray = StandardScaler().fit_transform(vectors.astype(np.float64))
    return standardised


def test_the_nearest_by_one_set_are_those_of_scikit_learn(store: Store) -> None:
    sets = stored_sets(store, None)
    vectors = load_features(store, sets.catalogue, sets.features["visual"])
    rows = np.flatnonzero(~np.isnan(vectors[:, 0]))
    videos = [stored.video for stored in all_videos(store, sets.catalogue)]
    index = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(unit(vectors[rows]))
    at = rows.tolist().index(5)
    expected, found = index.kneighbors(unit(vectors[rows])[at : at + 1])
    video = find_video(store, videos[5].video_id)
    space = Space(sets, "visual")
    near = nearest(space, vectors_of(space, video), 7, video.video)
    assert [n.video_id for n in near] == [videos[rows[i]].video_id for i in found[0, 1:]]
    np.testing.assert_allclose([n.distance for n in near], expected[0, 1:], atol=1e-4)
    assert {n.label for n in near} <= {video.venue for video in videos}


def test_a_fused_distance_is_the_mean_over_the_completed_sets(store: Store) -> None:
    sets = stored_sets(store, None)
    assert sets.completed is not None
    completed = load_completed(store, sets.catalogue, sets.completed)
    rows = np.flatnonzero(completed.usable)
    apart = np.mean([cosine_distances(unit(block[rows])) for block in completed.modalities.values()], axis=0)
    videos = [stored.video for stored in all_videos(store, sets.catalogue)]
    space, video = Space(sets, "fused"), find_video(store, videos[rows[0]].video_id)
    near = nearest(space, vectors_of(space, video), len(rows), video.video)
    assert len(near) == len(rows) - 1
    distance = {videos[row].video_id: apart[0, i] for i, row in enumerate(rows)}
    np.testing.assert_allclose([n.distance for n in near], [distance[n.video_id] for n in near], atol=1e-4)
    assert [n.distance for n in near] == sorted(n.distance for n in near)
    train = nearest(space, vectors_of(space, video), 3, video.video, only=lambda v: sets.split_of(v) == "train")
    assert [n.split for n in train] == ["train"] * 3
    assert train == [n for n in near if n.split == "train"][:3]


def test_what_cannot_be_searched_is_said(store: Store) -> None:
    sets = stored_sets(store, None)
    with pytest.raises(UserError, match=r"no feature set 'colour'\. Expected one of visual, acoustic, textual, fused"):
        Space(sets, "colour")
    vectors = load_features(store, sets.catalogue, sets.features["acoustic"])
    videos = [stored.video for stored in all_videos(store, sets.catalogue)]
    silent = videos[np.flatnonzero(np.isnan(vectors[:, 0]))[0]]
    space = Space(sets, "acoustic")
    with pytest.raises(StoreError, match=rf"{silent.video_id} has no acoustic vector"):
        vectors_of(space, find_video(store, silent.video_id))


N, SIZE = 90, 8


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    """Rows 3 and 70 agree in both sets, 4 and 71 in the pictures alone, 5 and 72 too but without sound in one."""
    random = np.random.default_rng(1)
    made = {name: random.normal(size=(N, 24)).astype(np.float32) for name in ("visual", "acoustic")}
    for one, other in ((3, 70), (4, 71), (5, 72)):
        made["visual"][other] = made["visual"][one] + random.normal(scale=0.05, size=24)
    made["acoustic"][70] = made["acoustic"][3] + random.normal(scale=0.05, size=24)
    made["acoustic"][72] = np.nan
    return made


@pytest.fixture
def parts(tmp_path: Path, vectors: dict[str, np.ndarray]) -> Store:
    """A store of twelve parts without a run. Rows 10 and 80 are copies of one file."""
    store = Store.create(tmp_path / "parts")
    videos = [
        Video(f"v{i:02d}", "c", f"{i}.mp4", f"{10 if i == 80 else i:064x}", 1, None, "ab"[i % 2], None, None)
        for i in range(N)
    ]
    videos[3], videos[70] = (Video(**{**vars(videos[i]), "split": s}) for i, s in ((3, "train"), (70, "test")))
    slices = [slice(begin, begin + SIZE) for begin in range(0, N, SIZE)]
    vectors["visual"][80], vectors["acoustic"][80] = vectors["visual"][10], vectors["acoustic"][10]
    made = tuple(make_part(store, videos[rows]) for rows in slices)
    save_catalogue(store, Catalogue((Crawl("c", "/nowhere", made, ()),)), TRAINING)
    for name, block in vectors.items():
        artifact = Artifact(f"features/{name}", {"extractor": {"name": name}, "state": None, "code_version": 1})
        artifact.note_recipe(store)
        for part, rows in zip(made, slices, strict=True):
            table = pa.table({"video_id": [v.video_id for v in videos[rows]], "vector": from_vectors(block[rows])})
            store.write(artifact.part(part.key), encode(table))
    return store


@pytest.mark.parametrize("group", [1, 20, 4096])
def test_near_duplicates_agree_in_every_set_that_both_have(
    parts: Store, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "GROUP_VIDEOS", group)
    pairs = near_duplicates(stored_sets(parts, None), 0.1)
    assert [(p.video_id, p.other_video_id) for p in pairs] == [("v03", "v70"), ("v05", "v72")]
    assert [p.crosses_splits for p in pairs] == [True, False]
    assert pairs[0].split == "train"
    assert 0 < pairs[0].distance < 0.1


def test_a_search_in_parts_is_that_in_one(parts: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(sample: int) -> list[str]:
        monkeypatch.setattr(similar, "SAMPLE", sample)
        space, video = Space(stored_sets(parts, None), "visual"), find_video(parts, "v03")
        return [n.video_id for n in nearest(space, vectors_of(space, video), 1, video.video)]

    assert search(4096) == search(2 * SIZE) == ["v70"]
    with pytest.raises(StoreError, match="has no completed vectors"):
        Space(stored_sets(parts, None), "fused")


def test_a_threshold_that_says_nothing_is_refused(parts: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MAX_PAIRS", 100)
    with pytest.raises(UserError, match="Give a smaller --threshold"):
        near_duplicates(stored_sets(parts, None), 1.5)


def test_copies_are_marked_and_are_no_near_duplicates(parts: Store) -> None:
    space, video = Space(stored_sets(parts, None), "visual"), find_video(parts, "v10")
    (first, second) = nearest(space, vectors_of(space, video), 2, video.video)
    assert (first.video_id, first.same_bytes, second.same_bytes) == ("v80", True, False)
    shutil.rmtree(parts.local_path("features"))
    with pytest.raises(StoreError, match="no extracted features"):
        stored_sets(parts, None)
