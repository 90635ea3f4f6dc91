"""Failures: which videos gave no picture or no sound, and why. Each is a row of a part of its own artifact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

import pyarrow as pa

from nmcl.pipeline.errors import TRANSIENT, ClipError, InternalError
from nmcl.pipeline.records import Clip, Modality, Need, Video
from nmcl.pipeline.storage.artifacts import Artifact, write_with_digest
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import decode, encode

MAX_ATTEMPTS = 3
"""How often a file with a transient failure is tried in all, one command after the other."""

MODALITY: Mapping[Need, Modality] = {"frames": "visual", "waveform": "acoustic"}
"""What is missing where the decoder could not give what was needed."""

INTERNAL = "internal"
"""What nobody foresaw: a bug of ours, unless the file is very odd."""

NO_SOUND = "no_sound"
"""A file without a soundtrack: data, and no failure."""

WHAT_TO_DO: Mapping[str, str] = {
    "missing": "Put the file back, or mount the disk; the next command tries it again.",
    "changed": "The file is not the one that was ingested: run `nmcl run` or `nmcl ingest` on the crawl again.",
    "timeout": "The next command tries it again; give it more time with `nmcl retry --set media.timeout_s=1800`.",
    "crashed": "The next command tries it again; give it more memory with `nmcl retry --set media.memory_mb=8192`.",
    "unreadable": "The file is damaged or no media file: download it again, and ingest the crawl again.",
    "no_picture": "Nothing, if it is meant to be sound only; else download it again.",
    "too_large": "Raise the limit that the detail names, such as `nmcl run --set media.max_pixels=100000000`.",
    "internal": "A bug of nmcl: please report the detail. A new version of the decoding code tries it again.",
    "rejected": "Correct the row of the manifest that the detail names, and ingest the crawl again.",
}
"""For people, by kind."""


@dataclass(frozen=True)
class Failure:
    """Why one video lacks a modality, or everything that a file holds."""

    modality: Modality | None
    """None: nothing can be had of the file."""
    kind: str
    """See `ClipError`."""
    detail: str
    """What was found, for a person."""
    attempts: int = 1
    """How many commands have tried, this kind of failure being one that may pass."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    @property
    def is_transient(self) -> bool:
        """Whether it may pass without any change of the file."""
        return self.kind in TRANSIENT

    @property
    def needs(self) -> frozenset[Need]:
        """What the decoder would have to give."""
        return frozenset(need for need, modality in MODALITY.items() if self.modality in (None, modality))


Failures = Mapping[str, tuple[Failure, ...]]
"""By video_id; videos without a failure are left out."""


@dataclass(frozen=True)
class Retry:
    """Which recorded failures are tried again. By default the transient ones, up to `MAX_ATTEMPTS` in all."""

    kinds: frozenset[str] | None = field(default=TRANSIENT)
    """None: all."""
    max_attempts: int | None = MAX_ATTEMPTS
    """None: any number."""

    def wants(self, failure: Failure) -> bool:
        """Whether this failure is tried again."""
        is_kind = self.kinds is None or failure.kind in self.kinds
        return is_kind and (self.max_attempts is None or failure.attempts < self.max_attempts)

    def among(self, failures: Failures) -> dict[str, tuple[Failure, ...]]:
        """The failures that are tried again, by video_id."""
        wanted = {video_id: tuple(f for f in of_video if self.wants(f)) for video_id, of_video in failures.items()}
        return {video_id: of_video for video_id, of_video in wanted.items() if of_video}


def refuse_bug(clips: Iterable[tuple[Video, Clip | ClipError]], n_decoded: int) -> None:
    """Raises InternalError where our own code fails on every file: that is no fact about the files.

    Args:
        clips: those that failed in our own code.
    """
    bugs = list(clips)
    if len(bugs) > 1 and len(bugs) == n_decoded:
        video, clip = bugs[0]
        problems = [clip] if isinstance(clip, ClipError) else list(clip.problems.values())
        first = next(problem for problem in problems if problem.kind == INTERNAL)
        raise InternalError(
            f"Decoding fails on each of {len(bugs):,} files: a bug of nmcl, and nothing was recorded. "
            f"The first: {video.path}: {first.detail}",
            first.trace,
        )


def failures_of_clip(clip: Clip | ClipError, needs: frozenset[Need]) -> tuple[Failure, ...]:
    """What went wrong with one decoded file. Args: needs: what was asked for."""
    if isinstance(clip, ClipError):
        return (Failure(None, clip.kind, clip.detail),)
    problems = {need: problem for need, problem in clip.problems.items() if need in needs}
    failed = {need: problem for need, problem in problems.items() if problem.kind != NO_SOUND}
    if failed and len(problems) == len(MODALITY):
        kind = next(failed[need].kind for need in MODALITY if need in failed)
        return (Failure(None, kind, "; ".join(problems[need].detail for need in MODALITY)),)
    return tuple(Failure(MODALITY[need], failed[need].kind, failed[need].detail) for need in MODALITY if need in failed)


def tried_again(before: Sequence[Failure], needs: frozenset[Need], after: Sequence[Failure]) -> tuple[Failure, ...]:
    """The failures of one video after some needs were tried again.

    Args:
        before: as recorded.
        needs: what was tried.
        after: what went wrong this time.
    """
    kept = [failure for failure in before if not failure.needs <= needs]
    attempts = max((failure.attempts for failure in before if failure.needs <= needs), default=0) + 1
    return (*kept, *(replace(failure, attempts=attempts) for failure in after))


def write_failures(store: Store, artifact: Artifact, part: Part, videos: Iterable[Video], failures: Failures) -> None:
    """Write the failures of a part, one row each, in the order of the videos."""
    rows = [
        {"video_id": video.video_id, "path": video.path, **asdict(failure)}
        for video in videos
        for failure in failures.get(video.video_id, ())
    ]
    artifact.note_recipe(store)
    write_with_digest(store, artifact.part(part.key), encode(pa.Table.from_pylist(rows, schema=_SCHEMA)))


_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("modality", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)


def load_failures(store: Store, artifact: Artifact, part: Part) -> dict[str, tuple[Failure, ...]]:
    """The failures of a part, by video_id. Earlier versions recorded files as a whole, without attempts."""
    name = artifact.part(part.key)
    table = decode(store.read(name), name)
    own = [f.name for f in fields(Failure) if f.name in table.column_names]
    found: dict[str, tuple[Failure, ...]] = {}
    for row in table.select(["video_id", *own]).to_pylist():
        video_id = row.pop("video_id")
        found[video_id] = (*found.get(video_id, ()), Failure(**{"modality": None, **row}))
    return found
