"""The state of a store: what it holds, what is unfinished, and the next command. Loads no network and no torch."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nmcl.flows.run.current import Current, current, split_settings
from nmcl.flows.run.intervals import Interval, score_intervals
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.errors import NmclError, StoreError, UserError
from nmcl.pipeline.records import Video
from nmcl.pipeline.stages.splits import Splits, assign, require_trainable
from nmcl.pipeline.stages.thumbnails import count_pictured
from nmcl.pipeline.storage.artifacts import Artifact, digest, has_state, modality_of
from nmcl.pipeline.storage.catalogue import Catalogue, Part, load_catalogue, load_part
from nmcl.pipeline.storage.failures import Failures, Retry
from nmcl.pipeline.storage.lineage import recorded_failures
from nmcl.pipeline.storage.runs import Run, all_runs, champion, list_runs
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import count_values
from nmcl.pipeline.storage.usage import stored
from nmcl.pipeline.text import counted, listed

NEWEST = 5
"""Number of runs that are shown, besides the champion; `nmcl runs` lists all."""
T = TypeVar("T")


@dataclass(frozen=True)
class CrawlStatus:
    """One crawl."""

    name: str
    folder: str
    videos: int
    labelled: int
    parts: int
    is_there: bool | None
    """Whether it is where it was ingested; None if its object store cannot be reached."""


@dataclass(frozen=True)
class FeatureStatus:
    """Vectors of one feature set, with the present settings."""

    feature_set: str
    modality: str | None
    folder: str | None
    """Artifact in the store; None if there is none yet."""
    parts: int
    """Finished parts."""
    parts_total: int
    videos: int
    """Videos with a vector."""
    missing: int
    """Videos of finished parts without one, as they have no such modality."""
    failed: int
    """Videos of finished parts without one, as their file could not be decoded."""


@dataclass(frozen=True)
class StageStatus:
    """One stage of a run with the present settings."""

    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class RunStatus:
    """One run."""

    run: str
    state: str
    is_latest: bool
    when: str
    test_videos: int | None
    micro_f1: float | None
    micro_f1_interval: Interval | None
    """95 % interval, see `nmcl.flows.run.intervals`."""
    macro_f1: float | None
    macro_f1_interval: Interval | None


@dataclass(frozen=True)
class Next:
    """The next command, and why."""

    command: str
    why: str
    is_unfinished: bool
    """Whether something is left to do for what the store already holds."""


@dataclass(frozen=True)
class Status:
    """State of a store."""

    store: str
    videos: int
    crawls: tuple[CrawlStatus, ...]
    stages: tuple[StageStatus, ...]
    features: tuple[FeatureStatus, ...]
    thumbnails: int
    """Videos with small key frames, which pages show."""
    outcomes: Mapping[str, int]
    """Videos by kind of failure, `decoded` without a failure, and `waiting` before extraction."""
    n_runs: int
    runs: tuple[RunStatus, ...]
    """The newest and the champion, the newest first."""
    champion: str | None
    bytes: Mapping[str, int]
    """Disk use by kind of artifact."""
    problems: tuple[str, ...]
    next: Next
    notes: tuple[str, ...] = ()


@dataclass
class _Reading:
    """A store whose damaged files are collected instead of raised."""

    store: Store
    problems: list[str] = field(default_factory=list)

    def get(self, otherwise: T, read: Callable[..., T], *arguments: Any) -> T:
        """Return what a function reads, or the other value if a file is damaged."""
        try:
            return read(*arguments)
        except StoreError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return otherwise


def status(store: Store) -> Status:
    """Return the state of a store, read from its recipes and the ends of its tables."""
    reading = _Reading(store)
    catalogue = reading.get(Catalogue(), load_catalogue, store)
    none: list[Video] = []
    rows = {part: reading.get(none, load_part, store, part) for _, part in catalogue.parts()}
    videos = [video for of_part in rows.values() for video in of_part]
    notes: list[str] = []
    splits = _splits(reading, videos, notes)
    now = Current({})
    if catalogue.crawls and splits is not None:
        now = reading.get(now, current, store, catalogue, videos, splits)
    failures = _failures(reading, now, list(rows))
    features = tuple(_feature(reading, name, artifact, failures, rows) for name, artifact in now.features.items())
    stages = _stages(store, catalogue, now, features) if catalogue.crawls else ()
    best = reading.get(None, champion, store)
    no_runs: tuple[RunStatus, ...] = ()
    listed_runs = reading.get(no_runs, _runs, store)
    crawls = tuple(_crawl(crawl.name, crawl.folder, crawl.parts, rows) for crawl in catalogue.crawls)
    sizes: Counter[str] = Counter()
    for one in stored(store):
        sizes[one.kind] += one.n_bytes
    found = _Found(store, catalogue, crawls, splits, now, features, stages, failures, best, tuple(reading.problems))
    return Status(
        store=store.url,
        videos=catalogue.n_videos,
        crawls=crawls,
        stages=stages,
        features=features,
        thumbnails=reading.get(0, count_pictured, store, catalogue),
        outcomes=_outcomes(catalogue, failures),
        n_runs=len(store.list("runs")),
        runs=listed_runs,
        champion=best.folder if best else None,
        bytes=dict(sorted(sizes.items())),
        problems=tuple(reading.problems),
        next=found.next(),
        notes=tuple(notes),
    )


def _splits(reading: _Reading, videos: Sequence[Video], notes: list[str]) -> Splits | None:
    try:
        settings = reading.get(None, split_settings, reading.store)
        return assign(list(videos), settings) if settings and videos else None
    except UserError as error:
        notes.append(str(error))
        return None


def _crawl(name: str, folder: str, parts: Sequence[Part], rows: Mapping[Part, Sequence[Video]]) -> CrawlStatus:
    videos = [video for part in parts for video in rows[part]]
    try:
        is_there: bool | None = crawl_source(folder).exists()
    except NmclError:
        is_there = None
    n_videos = sum(part.n_videos for part in parts)
    return CrawlStatus(name, folder, n_videos, sum(video.venue is not None for video in videos), len(parts), is_there)


PartFailures = Mapping[Part, Failures]
"""Failures by video, of each part whose files were decoded."""


def _failures(reading: _Reading, now: Current, parts: Sequence[Part]) -> PartFailures:
    recorded = recorded_failures(reading.store, now.decoding)
    found = {part: reading.get(None, recorded.of, part) for part in parts}
    return {part: failures for part, failures in found.items() if failures is not None}


def _outcomes(catalogue: Catalogue, failures: PartFailures) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for of_part in failures.values():
        for of_video in of_part.values():
            kinds.update({failure.kind for failure in of_video})
    n_recorded = sum(part.n_videos for part in failures)
    n_failed = sum(len(of_part) for of_part in failures.values())
    found = {"decoded": n_recorded - n_failed, "waiting": catalogue.n_videos - n_recorded, **dict(kinds.most_common())}
    return {kind: n for kind, n in found.items() if n}


def _feature(
    reading: _Reading,
    name: str,
    artifact: Artifact | None,
    failures: PartFailures,
    parts: Mapping[Part, Sequence[Video]],
) -> FeatureStatus:
    store = reading.store
    if artifact is None:
        return FeatureStatus(name, None, None, 0, len(parts), 0, 0, 0)
    modality = reading.get(None, modality_of, store, artifact.folder)
    there = set(store.list(artifact.folder))
    n_done = n_present = n_absent = n_failed = 0
    for part in parts:
        if f"part-{part.key}.parquet" not in there:
            continue
        n_rows, n_vectors = reading.get((0, 0), count_values, store, artifact.part(part.key), "vector")
        n_done, n_present, n_absent = n_done + 1, n_present + n_vectors, n_absent + n_rows - n_vectors
        if modality in ("visual", "acoustic"):
            of_part = failures.get(part, {}).values()
            n_failed += sum(any(f.modality in (None, modality) for f in of_video) for of_video in of_part)
    n_failed = min(n_failed, n_absent)
    return FeatureStatus(name, modality, artifact.folder, n_done, len(parts), n_present, n_absent - n_failed, n_failed)


def _stages(
    store: Store, catalogue: Catalogue, now: Current, features: Sequence[FeatureStatus]
) -> tuple[StageStatus, ...]:
    parts = [part for _, part in catalogue.parts()]
    fitted = sum(has_state(store, artifact) for artifact in now.states.values())
    completed = set(store.list(now.completed.folder)) if now.completed else set()
    n_completed = sum(f"part-{part.key}.parquet" in completed for part in parts)
    is_whole = not now.is_of_run or {p.rows for p in parts} == {p.rows for _, p in _parts_of(now.run)}
    trained = now.run if is_whole else None
    return (
        StageStatus("ingest", catalogue.n_videos, catalogue.n_videos, "videos"),
        StageStatus("fit", fitted, len(now.states) + len(now.unfitted), "states"),
        StageStatus("extract", sum(row.parts for row in features), sum(row.parts_total for row in features), "parts"),
        StageStatus("complete", n_completed, len(parts), "parts"),
        StageStatus("train", int(bool(trained and trained.is_trained)), 1, "models"),
        StageStatus("evaluate", int(bool(trained and trained.is_finished)), 1, "runs"),
    )


def _parts_of(run: Run | None) -> Sequence[tuple[object, Part]]:
    return list(run.catalogue.parts()) if run else []


def _runs(store: Store) -> tuple[RunStatus, ...]:
    rows = []
    for i, run in enumerate(reversed(list_runs(store))):
        if i >= NEWEST and run.state != "champion":
            continue
        scores = run.metrics
        between = score_intervals(Run(store, run.run)) if scores else {}
        rows.append(
            RunStatus(
                run=run.run,
                state=run.state,
                is_latest=run.is_latest,
                when=run.when,
                test_videos=scores.get("n_rows"),
                micro_f1=scores.get("micro_f1"),
                micro_f1_interval=between.get("micro_f1"),
                macro_f1=scores.get("macro_f1"),
                macro_f1_interval=between.get("macro_f1"),
            )
        )
    return tuple(rows)


@dataclass(frozen=True)
class _Found:
    """Everything that decides the next command."""

    store: Store
    catalogue: Catalogue
    crawls: Sequence[CrawlStatus]
    splits: Splits | None
    now: Current
    features: Sequence[FeatureStatus]
    stages: Sequence[StageStatus]
    failures: PartFailures
    champion: Run | None
    problems: Sequence[str]

    def next(self) -> Next:
        """Return the next command."""
        out = f"--out {shlex.quote(self.store.url)}"
        if self.problems:
            why = f"{counted(len(self.problems), 'file')} cannot be read"
            return Next(f"nmcl verify {out}", why, is_unfinished=True)
        if not self.catalogue.crawls:
            return Next(f"nmcl run CRAWL {out}", "no crawl is ingested yet", is_unfinished=True)
        left = self._left()
        gone = [crawl for crawl in self.crawls if crawl.is_there is False]
        if left and gone and self._is_to_extract:
            command = f"nmcl relocate {shlex.quote(gone[0].folder)} NEW_FOLDER {out}"
            return Next(command, f"{left}, and {gone[0].name} is no longer there", is_unfinished=True)
        if left:
            return Next(f"nmcl {self._stage_command} {out}", left, is_unfinished=True)
        if waiting := self._retryable():
            why = f"{counted(waiting, 'video')} failed for a reason that may be temporary"
            return Next(f"nmcl retry {out}", why, is_unfinished=True)
        if self._untrainable is not None:
            command = f"nmcl export {out} --format parquet --to features.parquet"
            return Next(command, f"the features are finished; {self._untrainable}", is_unfinished=False)
        command = f"nmcl predict CRAWL --model {shlex.quote(self.store.url)} --out predictions.parquet"
        return Next(command, "everything is finished", is_unfinished=False)

    @property
    def _is_to_extract(self) -> bool:
        return any(row.parts < row.parts_total for row in self.features) or not self.features

    @property
    def _untrainable(self) -> str | None:
        """Why no model can be trained on the labels; None if one can."""
        if self.splits is None:
            return "the videos have no splits"
        try:
            require_trainable(self.splits)
        except UserError:
            return "the labels do not suffice to train a model"
        return None

    @property
    def _stage_command(self) -> str:
        if self._untrainable is not None:
            return "extract"
        is_new = self.champion and self.now.is_of_run and self._new_crawls()
        return "retrain" if is_new else "evaluate"

    def _left(self) -> str | None:
        """Return what is unfinished; None if nothing is."""
        if self.now.is_of_run and self.champion and self._is_compared():
            return None
        lacking = [row for row in self.features if row.parts < row.parts_total]
        if not self.features:
            return "nothing is extracted yet"
        if lacking:
            n_left = sum(row.parts_total - row.parts for row in lacking)
            n_all = sum(row.parts_total for row in lacking)
            return f"{n_left:,} of {n_all:,} parts of {listed(row.feature_set for row in lacking)} are not extracted"
        if self._untrainable is not None:
            return None
        left = next((row for row in self.stages if row.done < row.total), None)
        return f"{left.stage} has finished {left.done:,} of {left.total:,} {left.unit}" if left else None

    def _new_crawls(self) -> dict[str, str]:
        """Return the digest of each crawl with videos that the run lacks, as retrainings note it."""
        known = {part.rows for _, part in _parts_of(self.now.run)}
        return {
            crawl.name: digest([part.rows for part in crawl.parts])
            for crawl in self.catalogue.crawls
            if any(part.rows not in known for part in crawl.parts)
        }

    def _is_compared(self) -> bool:
        """Return whether every crawl with videos that the run lacks was part of a retraining, as it is now."""
        waiting = self._new_crawls()
        runs = [*all_runs(self.store), *(Run(self.store, f"drift/{name}") for name in self.store.list("drift"))]
        seen: set[tuple[str, str]] = set()
        for run in runs:
            for note in (run.drift, run.comparison):
                seen |= set(note.crawls.items()) if note else set()
        return bool(waiting) and waiting.items() <= seen

    def _retryable(self) -> int:
        retry = Retry()
        return sum(any(map(retry.wants, of)) for of_part in self.failures.values() for of in of_part.values())
