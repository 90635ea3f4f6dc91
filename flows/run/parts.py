"""Work on one part of a crawl, in any process and on any machine.

Only names and settings are sent. Each process loads the networks and fitted states it needs once.
"""

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from multiprocessing.util import Finalize
from typing import Any, Protocol, TypeVar

from nmcl.extractors.threads import use_threads
from nmcl.flows.engine_settings import EngineSettings
from nmcl.flows.run.extractors import Extractors
from nmcl.flows.run.worker import retried
from nmcl.pipeline.media import Decoder
from nmcl.pipeline.needs import OCR, Text
from nmcl.pipeline.progress import Progress, within
from nmcl.pipeline.stages.complete import complete_part
from nmcl.pipeline.stages.extract import Job, Receipt, extract_part
from nmcl.pipeline.stages.vectors import Feature
from nmcl.pipeline.storage.artifacts import DIGEST_SUFFIX, RECIPE, Artifact, digest, files_of, load_state
from nmcl.pipeline.storage.catalogue import Catalogue, Part
from nmcl.pipeline.storage.failures import Retry, load_failures
from nmcl.pipeline.storage.store import Store

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class WorkItem:
    """A part, and the location of its videos."""

    crawl: str
    folder: str
    part: Part


def work_items(catalogue: Catalogue) -> list[WorkItem]:
    """Return all parts of a catalogue, in order."""
    return [WorkItem(crawl.name, crawl.folder, part) for crawl, part in catalogue.parts()]


class Work(Protocol[R_co]):
    """Picklable function that is applied to every part."""

    def __call__(self, item: WorkItem, progress: Progress) -> R_co:
        """Process a part. `progress` counts its videos."""


class MapItems(Protocol):
    """Protocol of an engine's parallel map: the same work applied to many parts."""

    def __call__(self, name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
        """Return the results in the order of the items.

        Args:
            name: Name of the stage.
            progress: Counts the videos of all items.
        """


def run_sequentially(name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
    """Process the parts sequentially in this process, without an engine."""
    do = numbered(name, work, items, progress)
    return [retried(partial(do, i)) for i in range(len(items))]


def numbered(name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> Callable[[int], R]:
    """Return the work as a function of an item's number, for one process. `progress` counts all items together."""
    ends = list(accumulate(item.part.n_videos for item in items))

    def do(i: int) -> R:
        result = work(items[i], within(progress, name, ends[i] - items[i].part.n_videos, ends[-1]))
        progress(name, ends[i], ends[-1])
        return result

    return do


@dataclass(frozen=True)
class ExtractPart:
    """Reads the text on screen of a part, if it is needed, and extracts the vectors of every feature set."""

    store: Store
    extractors: Extractors
    states: Mapping[str, Artifact]
    """States of the fitted extractors."""
    features: Mapping[str, Artifact]
    failures: Artifact
    retry: Retry | None = None
    """Which recorded failures are retried."""

    def __call__(self, item: WorkItem, progress: Progress) -> Receipt:
        media = self.extractors.settings.media
        made = [artifact.folder for artifact in (*self._on_screen, *self.features.values())]
        images = str(self.extractors.settings.thumbnails)
        address = digest([*made, str(media), images, str(self.store.root)])
        job, decoder = _loaded("extract", address, self._load)
        job = replace(job, retry=self.retry)
        return extract_part(self.store, item.crawl, item.folder, item.part, job, decoder, progress)

    def lacking(self, items: Sequence[WorkItem]) -> list[WorkItem]:
        """Return the parts with missing results or with failures to retry. Each artifact is listed only once."""
        thumbnails = self.extractors.thumbnails
        images = thumbnails if thumbnails and thumbnails.encoder.backfill else None
        artifacts = (*self._on_screen, *self.features.values(), self.failures, *([images.artifact] if images else []))
        made = {artifact.folder: files_of(self.store, artifact.folder) for artifact in artifacts}

        def is_whole(item: WorkItem) -> bool:
            names = [RECIPE, *(f"part-{item.part.key}.parquet{suffix}" for suffix in ("", DIGEST_SUFFIX))]
            is_there = all(name in found for found in made.values() for name in names)
            return is_there and (images is None or images.has_part(self.store, item.part))

        return [item for item in items if not is_whole(item) or self._is_to_retry(item.part)]

    @property
    def _on_screen(self) -> list[Artifact]:
        texts = self.extractors.texts
        return [texts[OCR]] if OCR in texts else []

    def _is_to_retry(self, part: Part) -> bool:
        return self.retry is not None and bool(self.retry.among(load_failures(self.store, self.failures, part)))

    def _load(self) -> tuple[Job, Decoder]:
        def feature(name: str) -> Feature:
            learned = self.states.get(name)
            state = load_state(self.store, learned)
            artifact = self.features[name]
            present = self.extractors.features(name, learned.address if learned else None).address
            code = present if present != artifact.address else ""
            return Feature(self.extractors.all[name], state, artifact, code)

        media = self.extractors.settings.media
        decoder = Decoder(replace(media, workers=media.workers or _decoders)).__enter__()
        texts = {Text(source): artifact for source, artifact in self.extractors.texts.items()}
        features, reader = tuple(map(feature, self.features)), self.extractors.reader
        job = Job(features, self.failures, texts, reader, self.extractors.thumbnails)
        Finalize(job, decoder.__exit__, exitpriority=1)  # at exit: before this process waits for its children
        return job, decoder


@dataclass(frozen=True)
class CompletePart:
    """Completes every modality of every video of a part."""

    store: Store
    features: Mapping[str, Artifact]
    completion: Artifact
    into: Artifact

    def __call__(self, item: WorkItem, progress: Progress) -> bool:
        state = _loaded("complete", self.completion.address, lambda: load_state(self.store, self.completion))
        return complete_part(self.store, item.part, self.features, state, self.into)


_kept: dict[str, tuple[str, Any]] = {}
"""The object that this process loaded last, by kind, with its address."""
_loading = threading.Lock()
_decoders = 0
"""Number of decoding processes of this process; 0: one per core."""


def _loaded(kind: str, address: str, load: Callable[[], R]) -> R:
    with _loading:
        if kind not in _kept or _kept[kind][0] != address:
            _kept.pop(kind, None)
            _kept[kind] = address, load()
        loaded: R = _kept[kind][1]
        return loaded


@contextmanager
def loaded_here() -> Iterator[None]:
    """Release everything this process has loaded for its parts, and stop its decoding processes, after the block."""
    try:
        yield
    finally:
        _kept.clear()


def limit_threads(engine: EngineSettings) -> None:
    """Limit all further work on parts in this process to a worker's share of the processor."""
    global _decoders
    use_threads(engine.threads_of_process)
    _decoders = engine.threads_of_process
    if engine.kind.has_daemons:
        multiprocessing.current_process().daemon = False  # daemons may not start decoding processes
