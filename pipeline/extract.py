"""Extract: one part of the catalogue in, one part of every modality's features out. Each file is decoded once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.artifacts import Artifact
from pipeline.catalogue import Part, load_part
from pipeline.crawl_source import CrawlSource, clips_of, crawl_source
from pipeline.errors import ClipError
from pipeline.media import Decoder, FrameSelector
from pipeline.progress import Progress, silent
from pipeline.records import Clip, Modality, Need, State, Video
from pipeline.stopwatch import Stopwatch
from pipeline.store import Store
from pipeline.tables import decode, encode, from_vectors, to_vectors

if TYPE_CHECKING:
    from extractors.base import Extractor

CLIPS_AT_A_TIME = 32
"""Handed to an extractor together: enough frames for full batches, few enough to bound memory."""


@dataclass(frozen=True)
class Feature:
    """One modality's features: who makes them, from what it learnt, and where they go."""

    extractor: "Extractor"
    state: State
    artifact: Artifact


@dataclass(frozen=True)
class Job:
    """All that is to be extracted, whatever the part."""

    features: tuple[Feature, ...]
    frames: FrameSelector
    """Chooses the key frames, in the decoding process."""
    failures: Artifact


@dataclass(frozen=True)
class Receipt:
    """What became of a part. Small: it is all that an engine carries."""

    part: str
    n_videos: int
    n_failed: int
    was_done: bool
    """True if there was nothing left to do."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What they went to: `decoding` (waiting for decoded clips), each modality, `writing`."""


def extract_part(
    store: Store, folder: str, part: Part, job: Job, decoder: Decoder, progress: Progress = silent
) -> Receipt:
    """Make what is missing of a part's features and failures. Args: folder: of the crawl.

    The failures go first: a file once known to fail is not decoded again, so that features made later agree with
    those made now. See `pipeline.retry` for trying failed files again.
    """
    missing = [feature for feature in job.features if not store.exists(feature.artifact.part(part.key))]
    first_time = not store.exists(job.failures.part(part.key))
    if not missing and not first_time:
        return Receipt(part.key, part.n_videos, len(load_failures(store, job.failures, part)), was_done=True)
    videos = load_part(store, part)
    failures = {} if first_time else load_failures(store, job.failures, part)
    needs = {feature.extractor.need for feature in missing}
    if first_time:
        needs |= {"frames", "waveform"}
    clips = _clips(videos, crawl_source(folder), needs, job.frames, failures, decoder)
    tables = [_Table(feature) for feature in missing]
    stopwatch = Stopwatch()
    for done, chunk in _chunks(stopwatch.each("decoding", clips), CLIPS_AT_A_TIME):
        for table in tables:
            with stopwatch.on(table.modality):
                table.add(chunk)
        progress("extract", done, part.n_videos)
    with stopwatch.on("writing"):
        _write_failures(store, job.failures, part, videos, failures)
        for table in tables:
            table.write(store, part, videos)
    return Receipt(part.key, part.n_videos, len(failures), was_done=False, seconds=stopwatch.seconds)


def _clips(
    videos: Sequence[Video],
    source: CrawlSource,
    needs: set[Need],
    frames: FrameSelector,
    failures: dict[str, ClipError],
    decoder: Decoder,
) -> Iterator[Clip]:
    """One clip a video, in order. A video that fails has nothing to extract, and is put into `failures`."""
    decodes = bool(needs & {"frames", "waveform"})
    readable = [video for video in videos if video.video_id not in failures]
    selector = frames if "frames" in needs else None
    decoded = clips_of([(source, video.path) for video in readable], selector, "waveform" in needs, decoder)
    for video in videos:
        if video.video_id in failures:
            yield Clip()
            continue
        clip = next(decoded) if decodes else Clip()
        if isinstance(clip, ClipError):
            failures[video.video_id] = clip
            yield Clip()
        else:
            yield replace(clip, description=video.description)


def _chunks(clips: Iterable[Clip], size: int) -> Iterator[tuple[int, list[Clip]]]:
    """Lists of `size` clips, each with the number of clips up to its end."""
    clips = iter(clips)
    done = 0
    while chunk := list(islice(clips, size)):
        done += len(chunk)
        yield done, chunk


class _Table:
    """The rows of one modality's part, as they come."""

    def __init__(self, feature: Feature) -> None:
        self._feature = feature
        self._vectors: list[np.ndarray] = []
        self._remarks: list[str | None] = []
        self._times_s: list[Sequence[float]] = []

    @property
    def modality(self) -> Modality:
        return self._feature.extractor.modality

    def add(self, clips: Sequence[Clip]) -> None:
        self._vectors.append(self._feature.extractor.extract(clips, self._feature.state))
        self._remarks += [_sound_remark(clip) for clip in clips]
        self._times_s += [clip.frame_times_s for clip in clips]

    def write(self, store: Store, part: Part, videos: Sequence[Video]) -> None:
        columns: dict[str, pa.Array] = {
            "video_id": pa.array([video.video_id for video in videos], pa.string()),
            "vector": from_vectors(np.concatenate(self._vectors)),
        }
        if self._feature.extractor.need == "frames":
            columns["key_frames_s"] = pa.array(self._times_s, pa.list_(pa.float32()))
        if self._feature.extractor.need == "waveform":
            columns["remark"] = pa.array(self._remarks, pa.string())
        artifact = self._feature.artifact
        artifact.note_recipe(store)
        store.write(artifact.part(part.key), encode(pa.table(columns)))


def _sound_remark(clip: Clip) -> str | None:
    problem = clip.problems.get("waveform")
    return problem.detail if problem else None


def _write_failures(
    store: Store, artifact: Artifact, part: Part, videos: Sequence[Video], failures: Mapping[str, ClipError]
) -> None:
    if store.exists(artifact.part(part.key)):
        return
    failed = [video for video in videos if video.video_id in failures]
    columns = {
        "video_id": [video.video_id for video in failed],
        "path": [video.path for video in failed],
        "kind": [failures[video.video_id].kind for video in failed],
        "detail": [failures[video.video_id].detail for video in failed],
    }
    artifact.note_recipe(store)
    store.write(artifact.part(part.key), encode(pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()})))


def load_failures(store: Store, artifact: Artifact, part: Part) -> dict[str, ClipError]:
    """Videos of a part that failed, by video_id."""
    name = artifact.part(part.key)
    table = decode(store.read(name), name)
    columns = (table.column(c).to_pylist() for c in ("video_id", "kind", "detail"))
    return {video_id: ClipError(kind, detail) for video_id, kind, detail in zip(*columns, strict=True)}


def load_vectors(store: Store, artifact: Artifact, part: Part, column: str = "vector") -> np.ndarray:
    """One modality's vectors of a part: shape (part.n_videos, D), float32, NaN rows where absent."""
    name = artifact.part(part.key)
    return to_vectors(decode(store.read(name), name).column(column))
