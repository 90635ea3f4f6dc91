"""Records of videos without picture or sound, with the reason. Each is a row in a part of a separate artifact."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

import pyarrow as pa

from nmcl.pipeline.errors import TRANSIENT, ClipError, InternalError
from nmcl.pipeline.needs import Stream
from nmcl.pipeline.records import Content, Modality, Video
from nmcl.pipeline.storage.artifacts import Artifact, write_with_digest
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, read_table

MAX_ATTEMPTS = 3
"""Maximum attempts for a file with a transient failure, over successive commands."""

MODALITY: Mapping[Stream, Modality] = {"frames": "visual", "waveform": "acoustic"}
"""Modality of what is missing if the decoder could not provide a stream."""

INTERNAL = "internal"
"""Unexpected failure: a bug in nmcl, unless the file is very unusual."""

NO_SOUND = "no_sound"
"""File without a soundtrack, which is not a failure."""

WHAT_TO_DO: Mapping[str, str] = {
    "missing": "Restore the file, or mount the disk; the next command retries it.",
    "changed": "The file is not the one that was ingested: run `nmcl run` or `nmcl ingest` on the crawl again.",
    "timeout": "The next command retries it; give it more time with `nmcl retry --set media.timeout_s=1800`.",
    "crashed": "The next command retries it; give it more memory with `nmcl retry --set media.memory_mb=8192`.",
    "unreadable": "The file is damaged or not a media file: download it again, and ingest the crawl again.",
    "no_picture": "Nothing, if the file is meant to be sound only; otherwise download it again.",
    "too_large": "Raise the limit given in the detail, for example `nmcl run --set media.max_pixels=100000000`.",
    "internal": "A bug in nmcl: please report the detail. A new version of the decoding code retries it.",
    "rejected": "Correct the manifest row given in the detail, and ingest the crawl again.",
}
"""Advice for the user, by kind."""


@dataclass(frozen=True)
class Failure:
    """Reason why one video lacks a modality, or everything in its file."""

    modality: Modality | None
    """None: nothing of the file can be used."""
    kind: str
    """See `ClipError`."""
    detail: str
    """What was found, for the user."""
    attempts: int = 1
    """Number of commands that have tried, for a transient kind of failure."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    @property
    def is_transient(self) -> bool:
        """Whether it may be resolved without any change of the file."""
        return self.kind in TRANSIENT

    @property
    def streams(self) -> frozenset[Stream]:
        """What the decoder would have to provide."""
        return frozenset(stream for stream, modality in MODALITY.items() if self.modality in (None, modality))


Failures = Mapping[str, tuple[Failure, ...]]
"""Failures by video_id; videos without a failure are left out."""


@dataclass(frozen=True)
class Retry:
    """Frozen selection of recorded failures to retry. Default: transient ones, up to `MAX_ATTEMPTS` in total."""

    kinds: frozenset[str] | None = field(default=TRANSIENT)
    """Kinds to retry; None: all."""
    max_attempts: int | None = MAX_ATTEMPTS
    """Maximum number of attempts in total; None: any number."""

    def wants(self, failure: Failure) -> bool:
        """Return whether this failure is retried."""
        is_kind = self.kinds is None or failure.kind in self.kinds
        return is_kind and (self.max_attempts is None or failure.attempts < self.max_attempts)

    def among(self, failures: Failures) -> dict[str, tuple[Failure, ...]]:
        """Return the failures to retry, by video_id."""
        wanted = {video_id: tuple(f for f in of_video if self.wants(f)) for video_id, of_video in failures.items()}
        return {video_id: of_video for video_id, of_video in wanted.items() if of_video}


def refuse_bug(clips: Iterable[tuple[Video, Content | ClipError]], n_decoded: int) -> None:
    """Raise InternalError if nmcl's own code fails on every file, which says nothing about the files.

    Args:
        clips: Clips that failed in our own code.
    """
    bugs = list(clips)
    if len(bugs) > 1 and len(bugs) == n_decoded:
        video, clip = bugs[0]
        problems = [clip] if isinstance(clip, ClipError) else list(clip.problems.values())
        first = next(problem for problem in problems if problem.kind == INTERNAL)
        raise InternalError(
            f"Decoding fails on each of {len(bugs):,} files: this is a bug in nmcl. No failure was recorded. "
            f"First failure: {video.path}: {first.detail}",
            first.trace,
        )


def failures_of(content: Content | ClipError, streams: frozenset[Stream]) -> tuple[Failure, ...]:
    """Return the failures of one decoded file among its requested streams."""
    if isinstance(content, ClipError):
        return (Failure(None, content.kind, content.detail),)
    problems = {stream: problem for stream, problem in content.problems.items() if stream in streams}
    failed = {stream: problem for stream, problem in problems.items() if problem.kind != NO_SOUND}
    if failed and len(problems) == len(MODALITY):
        kind = next(failed[stream].kind for stream in MODALITY if stream in failed)
        return (Failure(None, kind, "; ".join(problems[stream].detail for stream in MODALITY)),)
    return tuple(Failure(MODALITY[s], failed[s].kind, failed[s].detail) for s in MODALITY if s in failed)


def tried_again(before: Sequence[Failure], streams: frozenset[Stream], after: Sequence[Failure]) -> tuple[Failure, ...]:
    """Return the failures of one video after some streams were retried.

    Args:
        before: Failures on record.
        streams: What was retried.
        after: Failures of this attempt.
    """
    kept = [failure for failure in before if not failure.streams <= streams]
    attempts = max((failure.attempts for failure in before if failure.streams <= streams), default=0) + 1
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
    """Return the failures of a part, by video_id. Earlier versions recorded whole files, without attempts."""
    table = read_table(store, artifact.part(part.key))
    own = [f.name for f in fields(Failure) if f.name in table.column_names]
    found: dict[str, tuple[Failure, ...]] = {}
    for row in table.select(["video_id", *own]).to_pylist():
        video_id = row.pop("video_id")
        found[video_id] = (*found.get(video_id, ()), Failure(**{"modality": None, **row}))
    return found
