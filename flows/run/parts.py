"""The work on one part of a crawl, for whichever process or machine does it.

It travels as names and settings. What it needs besides, networks and what was learnt, each process loads once.
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
from nmcl.flows.run.plan import Extractors
from nmcl.flows.run.worker import retried
from nmcl.pipeline.media import Decoder
from nmcl.pipeline.progress import Progress, within
from nmcl.pipeline.records import MODALITIES, Modality
from nmcl.pipeline.stages.complete import complete_part
from nmcl.pipeline.stages.extract import Feature, Job, Receipt, extract_part
from nmcl.pipeline.storage.artifacts import DIGEST_SUFFIX, Artifact, digest, load_state
from nmcl.pipeline.storage.catalogue import Catalogue, Part
from nmcl.pipeline.storage.failures import Retry, load_failures
from nmcl.pipeline.storage.store import Store

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class WorkItem:
    """A part, and where its videos are."""

    crawl: str
    folder: str
    part: Part


def work_items(catalogue: Catalogue) -> list[WorkItem]:
    """All parts of a catalogue, in order."""
    return [WorkItem(crawl.name, crawl.folder, part) for crawl, part in catalogue.parts()]


class Work(Protocol[R_co]):
    """What is done with every part. Picklable."""

    def __call__(self, item: WorkItem, progress: Progress) -> R_co:
        """Args: progress: of this part, in videos."""


class MapItems(Protocol):
    """How an engine does the same work with each of many parts."""

    def __call__(self, name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
        """Results in the order of the items. Args: name: of the stage; progress: of all items, in videos."""


def run_sequentially(name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
    """No engine: one part after the other, in this process."""
    do = numbered(name, work, items, progress)
    return [retried(partial(do, i)) for i in range(len(items))]


def numbered(name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> Callable[[int], R]:
    """The work by the number of its item, for one process: `progress` hears how far all of them are."""
    ends = list(accumulate(item.part.n_videos for item in items))

    def do(i: int) -> R:
        result = work(items[i], within(progress, name, ends[i] - items[i].part.n_videos, ends[-1]))
        progress(name, ends[i], ends[-1])
        return result

    return do


@dataclass(frozen=True)
class ExtractPart:
    """Vectors of every modality of a part."""

    store: Store
    extractors: Extractors
    states: Mapping[Modality, Artifact]
    """Of the extractors that learn."""
    features: Mapping[Modality, Artifact]
    failures: Artifact
    retry: Retry | None = None
    """Which recorded failures are tried again."""

    def __call__(self, item: WorkItem, progress: Progress) -> Receipt:
        media = self.extractors.settings.media
        address = digest([self.features[m].address for m in MODALITIES] + [str(media), str(self.store.root)])
        job, decoder = _loaded("extract", address, self._load)
        job = replace(job, retry=self.retry)
        return extract_part(self.store, item.crawl, item.folder, item.part, job, decoder, progress)

    def lacking(self, items: Sequence[WorkItem]) -> list[WorkItem]:
        """The parts of which anything is to be made or tried again. Folders are listed once, however many parts."""
        artifacts = (*self.features.values(), self.failures)
        made = {artifact.folder: set(self.store.list(artifact.folder)) for artifact in artifacts}

        def is_whole(item: WorkItem) -> bool:
            names = [f"part-{item.part.key}.parquet{suffix}" for suffix in ("", DIGEST_SUFFIX)]
            return all(name in found for found in made.values() for name in names)

        return [item for item in items if not is_whole(item) or self._is_to_retry(item.part)]

    def _is_to_retry(self, part: Part) -> bool:
        return self.retry is not None and bool(self.retry.among(load_failures(self.store, self.failures, part)))

    def _load(self) -> tuple[Job, Decoder]:
        def feature(modality: Modality) -> Feature:
            learned = self.states.get(modality)
            state = load_state(self.store, learned)
            artifact = self.features[modality]
            present = self.extractors.features(modality, learned.address if learned else None).address
            code = present if present != artifact.address else ""
            return Feature(self.extractors.all[modality], state, artifact, code)

        media = self.extractors.settings.media
        decoder = Decoder(replace(media, workers=media.workers or _decoders)).__enter__()
        job = Job(tuple(feature(m) for m in MODALITIES), self.extractors.visual.frames, self.failures)
        Finalize(job, decoder.__exit__, exitpriority=1)  # at exit: before this process waits for its children
        return job, decoder


@dataclass(frozen=True)
class CompletePart:
    """Every modality of every video of a part, filled in where it is missing."""

    store: Store
    features: Mapping[Modality, Artifact]
    completion: Artifact
    into: Artifact

    def __call__(self, item: WorkItem, progress: Progress) -> bool:
        state = _loaded("complete", self.completion.address, lambda: load_state(self.store, self.completion))
        return complete_part(self.store, item.part, self.features, state, self.into)


_kept: dict[str, tuple[str, Any]] = {}
"""By kind: the address of what this process loaded last, and the thing itself."""
_loading = threading.Lock()
_decoders = 0
"""Decoding processes of this process; 0 for one a core."""


def _loaded(kind: str, address: str, load: Callable[[], R]) -> R:
    with _loading:
        if kind not in _kept or _kept[kind][0] != address:
            _kept.pop(kind, None)
            _kept[kind] = address, load()
        loaded: R = _kept[kind][1]
        return loaded


@contextmanager
def loaded_here() -> Iterator[None]:
    """Forget at the end of the block what this process has loaded for its parts, and stop its decoding processes."""
    try:
        yield
    finally:
        _kept.clear()


def limit_threads(engine: EngineSettings) -> None:
    """From now on, parts done in this process take a worker's share of the processor."""
    global _decoders
    use_threads(engine.threads_of_process)
    _decoders = engine.threads_of_process
    if engine.kind.has_daemons:
        multiprocessing.current_process().daemon = False  # or it could not start decoding processes
