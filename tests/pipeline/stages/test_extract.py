"""A part of features: each modality by itself, and bugs of ours that never become data."""

import io
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy.sparse import csr_array

from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.thumbnails import Thumbnailer, ThumbnailSettings
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.errors import InternalError, StoreError
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.libraries import versions_in, with_versions
from nmcl.pipeline.media import Decoder, MediaSettings
from nmcl.pipeline.needs import Frames, FrameSelector, Need, Sound, Text
from nmcl.pipeline.records import Clip, Modality, State, Video
from nmcl.pipeline.stages.complete import complete_part, fit_completion
from nmcl.pipeline.stages.extract import Job, extract_part
from nmcl.pipeline.stages.ingest import _hash
from nmcl.pipeline.stages.thumbnails import Images, Thumbnails, load_thumbnails
from nmcl.pipeline.stages.vectors import Feature, load_sequences, load_terms, load_vectors
from nmcl.pipeline.storage.artifacts import Artifact, write_with_digest
from nmcl.pipeline.storage.catalogue import Part, load_part, make_part
from nmcl.pipeline.storage.failures import Retry, load_failures
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import decode, encode
from tests.faults.world import without_decodable_sound
from tests.media import AsDecoded, BrokenSelector, rgb_by_ffmpeg, run_ffmpeg, shades, tone, write_video

FRAMES = Frames(KeyFrames(2), AsDecoded())


class Level:
    """The mean of whatever it needs: one number a clip."""

    dim, fit_videos = 1, 0

    def __init__(self, modality: Modality, need: Need) -> None:
        self.modality, self.need = modality, need

    def address(self) -> dict[str, object]:
        return {"code": 1}

    def extract(self, clips: list[Clip], state: State) -> np.ndarray:
        field = {Frames: "frames", Sound: "waveform", Text: "text"}[type(self.need)]
        found = [getattr(clip, field) for clip in clips]
        values = [len(v) if isinstance(v, str) else np.nan if v is None else np.mean(v) for v in found]
        return np.array(values, np.float32)[:, None]


def with_selector(job: Job, selector: FrameSelector) -> Job:
    """The same job with another choice of frames."""
    visual, *others = job.features
    extractor = Level("visual", Frames(selector, AsDecoded()))
    return replace(job, features=(replace(visual, extractor=extractor), *others))


@dataclass(frozen=True)
class World:
    """A crawl of a few files, and what is extracted of it."""

    store: Store
    folder: Path
    part: Part
    job: Job

    def extract(self) -> dict[str, list[tuple[str | None, str]]]:
        with Decoder(MediaSettings(workers=1)) as decoder:
            extract_part(self.store, "crawl", str(self.folder), self.part, self.job, decoder)
        found = load_failures(self.store, self.job.failures, self.part)
        return {name: [(f.modality, f.kind) for f in failures] for name, failures in found.items()}

    def vectors(self, i: int) -> np.ndarray:
        return load_vectors(self.store, self.job.features[i].artifact, self.part)[:, 0]


@pytest.fixture
def world(tmp_path: Path) -> World:
    folder = tmp_path / "crawl"
    folder.mkdir()
    write_video(folder / "whole.mp4", shades([40, 200], 4), sound=tone(300, 0.8))
    write_video(folder / "silent.mp4", shades([40, 100], 4))
    (folder / "none.mp4").write_bytes(b"no video")
    run_ffmpeg("-f", "lavfi", "-i", "sine=300:d=0.8", "-c:a", "flac", folder / "heard.mka")
    source = crawl_source(folder)
    videos = []
    for path in sorted(p.name for p in folder.iterdir()):
        stat = _hash(source, path)
        assert stat
        name = path.split(".")[0]
        videos.append(Video(name, "crawl", path, stat.sha256, stat.n_bytes, f"words of {name}", None, None, None))
    store = Store.create(tmp_path / "out")
    extractors = (Level("visual", FRAMES), Level("acoustic", Sound()), Level("textual", Text()))
    features = tuple(
        Feature(e, State(), Artifact(f"features/{e.modality}", {**e.address(), "state": None})) for e in extractors
    )
    job = Job(features, Artifact("failures/media", {"decoding": 1}))
    return World(store, folder, make_part(store, videos), job)


def test_every_modality_has_its_own_outcome(world: World) -> None:
    assert world.extract() == {"none": [(None, "unreadable")], "heard": [("visual", "no_picture")]}
    names = ["heard", "none", "silent", "whole"]
    assert [name for name, v in zip(names, world.vectors(0), strict=True) if v == v] == ["silent", "whole"]
    assert [name for name, v in zip(names, world.vectors(1), strict=True) if v == v] == ["heard", "whole"]
    assert not np.isnan(world.vectors(2)).any()  # words are there whatever the file is


def test_new_settings_do_not_decode_what_is_known_to_fail(world: World) -> None:
    world.extract()
    before = world.store.read(world.job.failures.part(world.part.key))
    other = replace(world.job.features[0], artifact=Artifact("features/visual", {"code": 2}))
    (world.folder / "none.mp4").unlink()
    (world.folder / "heard.mka").unlink()
    later = replace(world, job=replace(world.job, features=(other, *world.job.features[1:])))
    later.extract()
    assert world.store.read(world.job.failures.part(world.part.key)) == before
    np.testing.assert_array_equal(later.vectors(0), world.vectors(0))


def test_parts_lost_after_their_failures_were_written_are_made_again_with_the_same_bytes(world: World) -> None:
    """As by a kill between the two."""
    name = "deaf.avi"
    (world.folder / name).write_bytes(without_decodable_sound(world.folder / "whole.mp4", world.folder))
    stat = _hash(crawl_source(world.folder), name)
    assert stat
    deaf = Video("deaf", "crawl", name, stat.sha256, stat.n_bytes, "words", None, None, None)
    world = replace(world, part=make_part(world.store, [*load_part(world.store, world.part), deaf]))
    assert world.extract()["deaf"] == [("acoustic", "unreadable")]
    parts = [feature.artifact.part(world.part.key) for feature in world.job.features]
    before = [world.store.read(part) for part in parts]
    remarks = decode(before[1], parts[1]).column("remark").to_pylist()
    assert [remark is not None for remark in remarks] == [False, False, True, False, True]  # silent, deaf
    for part in parts:
        world.store.remove(part)
    world.extract()
    assert [world.store.read(part) for part in parts] == before


class Levels(Level):
    """The same, with the mean of every frame beside it."""

    def extract(self, clips: list[Clip], state: State) -> Extracted:  # type: ignore[override]
        means = [None if clip.frames is None else clip.frames.mean(axis=(1, 2, 3))[:, None] for clip in clips]
        sequences = [None if mean is None else mean.astype(np.float32) for mean in means]
        return Extracted(super().extract(clips, state), sequences, [clip.frame_times_s for clip in clips])


def test_a_damaged_part_is_named_by_its_file(world: World) -> None:
    world.extract()
    visual, acoustic = (feature.artifact.part(world.part.key) for feature in world.job.features[:2])
    world.store.remove(visual)  # so that there is work to do
    path = world.store.local_path(acoustic)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=f"^{acoustic} is damaged"):
        world.extract()


def test_what_was_pooled_is_kept(world: World) -> None:
    """Also that of the other videos, when one is tried again."""
    again = world.folder / "none.mp4"
    feature = Feature(Levels("visual", FRAMES), State(), Artifact("features/visual", {"code": 3}))
    world = replace(world, job=replace(world.job, features=(feature, *world.job.features[1:])))
    again.unlink()
    assert world.extract()["none"] == [(None, "missing")]
    before = load_sequences(world.store, feature.artifact, world.part)
    assert [s if s is None else len(s.vectors) for s in before] == [None, None, 2, 2]
    again.write_bytes(b"no video")
    replace(world, job=replace(world.job, retry=Retry())).extract()
    for one, other in zip(before, load_sequences(world.store, feature.artifact, world.part), strict=True):
        assert (one is None) == (other is None)
        for before_, after in zip(one or (), other or (), strict=True):
            np.testing.assert_array_equal(before_, after)
    table = decode(world.store.read(feature.artifact.part(world.part.key)), "features/")
    assert table.column("sequence_s").to_pylist() == [None, None, *table.column("key_frames_s").to_pylist()[2:]]
    assert [s and s.times_s.tolist() for s in before] == table.column("sequence_s").to_pylist()
    assert load_sequences(world.store, world.job.features[1].artifact, world.part) == [None] * 4


class Terms(Level):
    """The same, with the values of the first frame as weights of five terms."""

    def extract(self, clips: list[Clip], state: State) -> Extracted:  # type: ignore[override]
        rows = [np.zeros(5) if clip.frames is None else clip.frames[0].reshape(-1)[:5] for clip in clips]
        return Extracted(super().extract(clips, state), terms=csr_array(np.array(rows, np.float32).reshape(-1, 5)))


def test_terms_are_kept(world: World) -> None:
    """Also those of the other videos, when one is tried again; and completed parts have them."""
    path = world.folder / "whole.mp4"
    data = path.read_bytes()
    feature = Feature(Terms("visual", FRAMES), State(), Artifact("features/visual", {"code": 4, "state": None}))
    world = replace(world, job=replace(world.job, features=(feature, *world.job.features[1:])))
    path.unlink()
    assert world.extract()["whole"] == [(None, "missing")]
    before = load_terms(world.store, feature.artifact, world.part)
    assert before is not None
    assert (before.shape, np.diff(before.indptr).tolist()) == ((4, 5), [0, 0, 5, 0])
    path.write_bytes(data)
    replace(world, job=replace(world.job, retry=Retry())).extract()
    after = load_terms(world.store, feature.artifact, world.part)
    assert after is not None
    assert np.diff(after.indptr).tolist() == [0, 0, 5, 5]
    np.testing.assert_array_equal(after.toarray()[:3], before.toarray()[:3])
    table = decode(world.store.read(feature.artifact.part(world.part.key)), "features/")
    assert table.column("terms").to_pylist() == [None, None, *[[0, 1, 2, 3, 4]] * 2]
    assert table.schema.metadata[b"n_terms"] == b"5"
    assert load_terms(world.store, world.job.features[1].artifact, world.part) is None

    artifacts = {f.artifact.kind.rpartition("/")[2]: f.artifact for f in world.job.features}
    blocks = {name: load_vectors(world.store, artifact, world.part) for name, artifact in artifacts.items()}
    into = Artifact("completed/all", {"completion": 1})
    complete_part(world.store, world.part, artifacts, fit_completion(blocks, CompletionSettings(method="mean")), into)
    completed = decode(world.store.read(into.part(world.part.key)), into.part(world.part.key))
    assert completed.column("visual_terms") == table.column("terms")
    assert completed.column("visual_term_weights") == table.column("term_weights")
    assert completed.schema.metadata[b"visual_n_terms"] == b"5"
    assert not [name for name in completed.column_names if name.startswith("acoustic_term")]


def test_what_fails_later_is_on_record(world: World) -> None:
    world.extract()
    other = replace(world.job.features[0], artifact=Artifact("features/visual", {"code": 2}))
    (world.folder / "whole.mp4").unlink()
    later = replace(world, job=replace(world.job, features=(other, *world.job.features[1:])))
    assert later.extract()["whole"] == [(None, "missing")]
    assert np.isnan(later.vectors(0)[3])
    assert not np.isnan(later.vectors(1)[3])


def test_a_bug_of_ours_is_no_fact_about_files(world: World) -> None:
    job = with_selector(world.job, BrokenSelector())
    (world.folder / "none.mp4").unlink()
    broken = replace(world, job=job)
    with pytest.raises(InternalError, match="ZeroDivisionError") as found:
        replace(broken, part=make_part(world.store, _decodable(world))).extract()
    assert "whole.mp4" in str(found.value) or "silent.mp4" in str(found.value)
    assert "Traceback" in found.value.trace
    assert not world.store.exists(world.job.failures.part(world.part.key))


def test_an_odd_file_among_others_is_a_row(world: World) -> None:
    found = replace(world, job=with_selector(world.job, BrokenSelector(min_level=150))).extract()
    assert found["whole"] == [("visual", "internal")]
    assert not np.isnan(world.vectors(1)[3])


def _decodable(world: World) -> list[Video]:
    return [video for video in load_part(world.store, world.part) if video.video_id in ("silent", "whole")]


def test_thumbnails_come_from_the_same_decode_and_change_no_vector(world: World) -> None:
    world.extract()
    names = [feature.artifact.part(world.part.key) for feature in world.job.features]
    before = [world.store.read(name) for name in names]
    settings = ThumbnailSettings()
    artifact = Artifact("thumbnails/images", settings.address())
    pictured = replace(world, job=replace(world.job, thumbnails=Thumbnails(Thumbnailer(settings), artifact)))
    pictured.extract()
    assert not world.store.exists(artifact.folder)  # nothing was decoded, and nothing asked for them alone
    for name in names:
        world.store.remove(name)
    pictured.extract()
    assert [world.store.read(name) for name in names] == before
    found = dict(zip(["heard", "none", "silent", "whole"], _thumbnails(pictured, artifact), strict=True))
    assert [len(found[name].files) for name in found] == [0, 0, 3, 3]
    assert list(found["whole"].times_s) == pytest.approx([0.0, 0.4, 0.7])
    assert [name for name in found if found[name].spectrogram] == ["heard", "whole"]
    pictures = np.stack([np.asarray(PIL.Image.open(io.BytesIO(file)), np.float32) for file in found["whole"].files])
    decoded = rgb_by_ffmpeg(world.folder / "whole.mp4", (0, 64, 96, 3))[[0, 4, 7]]
    assert np.abs(pictures - decoded).max() < 8  # JPEG


def test_thumbnails_are_added_on_demand_and_for_videos_that_can_be_read_again(world: World) -> None:
    settings = ThumbnailSettings(backfill=True)
    artifact = Artifact("thumbnails/images", settings.address())
    features = [replace(f, artifact=Artifact(f.artifact.kind, _RECIPE)) for f in world.job.features]
    world = replace(world, job=replace(world.job, features=tuple(features)))
    pictured = replace(world, job=replace(world.job, thumbnails=Thumbnails(Thumbnailer(settings), artifact)))
    (world.folder / "whole.mp4").rename(world.folder / "away")
    world.extract()
    pictured.extract()
    assert [len(images.files) for images in _thumbnails(pictured, artifact)] == [0, 0, 3, 0]
    (world.folder / "away").rename(world.folder / "whole.mp4")
    replace(pictured, job=replace(pictured.job, retry=Retry())).extract()
    assert [len(images.files) for images in _thumbnails(pictured, artifact)] == [0, 0, 3, 3]
    assert [images.spectrogram is not None for images in _thumbnails(pictured, artifact)] == [True, False, False, True]


def test_spectrograms_are_added_when_sound_is_first_decoded(world: World) -> None:
    """No sound is decoded for thumbnails alone: a store of pictures has no failures of sound."""
    artifact = Artifact("thumbnails/images", ThumbnailSettings().address())
    job = replace(world.job, thumbnails=Thumbnails(Thumbnailer(ThumbnailSettings()), artifact))
    visual, _, textual = job.features
    replace(world, job=replace(job, features=(visual, textual))).extract()
    before = _thumbnails(world, artifact)
    assert [images.spectrogram for images in before] == [None] * 4
    replace(world, job=job).extract()
    after = _thumbnails(world, artifact)
    assert [images.spectrogram is not None for images in after] == [True, False, False, True]
    assert [replace(images, spectrogram=None) for images in after] == before


def test_thumbnails_of_an_earlier_version_have_no_spectrograms_until_asked_for(world: World) -> None:
    artifact = Artifact("thumbnails/images", ThumbnailSettings().address())
    pictured = replace(world, job=replace(world.job, thumbnails=Thumbnails(Thumbnailer(ThumbnailSettings()), artifact)))
    pictured.extract()
    name, now = artifact.part(world.part.key), _thumbnails(world, artifact)
    bytes_now = world.store.read(name)
    write_with_digest(world.store, name, encode(decode(bytes_now, name).drop_columns(["spectrogram"])))
    assert _thumbnails(world, artifact) == [replace(images, spectrogram=None) for images in now]
    pictured.extract()
    assert _thumbnails(world, artifact) == [replace(images, spectrogram=None) for images in now]
    settings = ThumbnailSettings(backfill=True)
    replace(world, job=replace(world.job, thumbnails=Thumbnails(Thumbnailer(settings), artifact))).extract()
    assert world.store.read(name) == bytes_now


_RECIPE = {"extractor": {"code": 1}, "state": None, "code_version": 1}


def _thumbnails(world: World, artifact: Artifact) -> list[Images]:
    return load_thumbnails(world.store, artifact.folder, world.part)


def test_parts_name_the_versions_of_what_made_their_rows(world: World) -> None:
    """A retry adds those of its rows; a part of an earlier version stays without."""
    away = (world.folder / "whole.mp4").rename(world.folder.parent / "whole.mp4")
    assert world.extract()["whole"] == [(None, "missing")]
    names = [feature.artifact.part(world.part.key) for feature in world.job.features]
    found = [versions_in(decode(world.store.read(name), name)) for name in names]
    assert [of_one and {*of_one} - {"nmcl", "numpy", "python"} for of_one in found] == [
        {"av", "opencv-python-headless", "pillow"},
        {"av", "imageio-ffmpeg"},
        set(),
    ]
    for name, before in zip(names, ({"av": ["0.1"]}, None, None), strict=True):
        table = decode(world.store.read(name), name).replace_schema_metadata(None)
        write_with_digest(world.store, name, encode(with_versions(table, before)))
    away.rename(world.folder / "whole.mp4")
    again = replace(world, job=replace(world.job, retry=Retry(kinds=None, max_attempts=None)))
    assert "whole" not in again.extract()
    after = [versions_in(decode(world.store.read(name), name)) for name in names]
    assert after[0]
    assert after[0]["av"] == ["0.1", version("av")]
    assert after[1:] == [None, None]
