"""Benchmark of how cost and memory grow with the number of videos, and of the overhead of orchestration."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from nmcl.extractors.visual import VisualSettings
from nmcl.flows.bench.material import make_crawl, settings_with, source_of
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.run import runs, stages
from nmcl.flows.run.parts import Work, WorkItem
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.flows.service.server import embedded
from nmcl.flows.settings import Settings
from nmcl.pipeline.bench.measure import in_new_process, peak_bytes_above, seconds
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.stages.extract import CLIPS_AT_A_TIME
from nmcl.pipeline.stages.ingest import IngestSettings
from nmcl.pipeline.storage.artifacts import load_state, save_state, write_with_digest
from nmcl.pipeline.storage.failures import write_failures
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_vectors

R = TypeVar("R")
LITE = FeatureChoice("efficientnet_lite0", VisualSettings(key_frames=2))
"""The lightest network on few frames, so that all other costs weigh most."""


@dataclass(frozen=True)
class Size:
    """Size of the benchmark."""

    videos: tuple[int, ...] = (256, 512, 1024)
    finished: int = 10_000
    rows: int = 20_000
    part_size: int = 256
    visual: FeatureChoice[VisualSettings] = field(default_factory=lambda: LITE)


FULL = Size(videos=(100, 1000, 10_000), rows=100_000)


def bench_scale(crawl: Path | None, size: Size | None = None, progress: Progress = silent) -> Result:
    """Measure extraction of growing crawls with Prefect, a second run over finished work, and ingest of many rows."""
    size = size or Size()
    settings = replace(settings_with(size.visual), ingest=IngestSettings(part_size=size.part_size))
    figures: dict[str, float] = {}
    notes = []
    steps = len(size.videos) + 2
    with scratch("bench") as folder:
        source, origin = source_of(crawl, folder / "sample", progress)
        states = _learn(source, settings, folder / "learn")
        with embedded():
            warm_up = folder / "warm-up"
            make_crawl(source, CLIPS_AT_A_TIME, warm_up)
            for done, n in enumerate(size.videos):
                progress("bench scale", done, steps, f"{n:,} videos")
                crawl_n = folder / f"crawl-{n}"
                notes.append(make_crawl(source, n, crawl_n, n_files=size.videos[0]) + f"; {origin}")
                measured = in_new_process(measure_extraction, warm_up, crawl_n, settings, states)
                figures |= {f"at_{n}_{name}": value for name, value in measured.items()}
        progress("bench scale", steps - 2, steps, "second run")
        figures["second_run_s"] = measure_second_run(folder / "finished", size.finished, settings, states)
        progress("bench scale", steps - 1, steps, "ingest")
        figures |= measure_ingest(folder / "rows", size.rows, settings)
    progress("bench scale", steps, steps)
    least, most = (f"at_{n}" for n in (size.videos[0], size.videos[-1]))
    ratios = {
        "cost_most_over_least": figures[f"{most}_video_s"] / figures[f"{least}_video_s"],
        "memory_most_over_least": figures[f"{most}_peak_bytes"] / figures[f"{least}_peak_bytes"],
        "orchestration_share": figures[f"{most}_orchestration_share"],
    }
    notes += [
        f"{size.visual.extractor} on {size.visual.options.key_frames} key frames, parts of {size.part_size}, one "
        "Prefect task per part on the embedded server",
        f"video_s: work on parts, after a first part of {CLIPS_AT_A_TIME} videos (start_s) has started networks and "
        "processes",
        "peak_bytes: increase in resident memory of the extracting process, plus its largest decoder",
        "orchestration_share: share of the stage outside the work on parts (Prefect, including its start), or spent "
        "reading and writing the store",
        f"second_run_s: listing and checking {size.finished:,} finished videos, which are links to one short file "
        "with zero vectors; without imports",
        f"ingest_s: {size.rows:,} manifest rows, including hashing; the files are links to short ones",
    ]
    if size.rows < FULL.rows:
        notes.append(
            f"reduced: {size.rows:,} rows and {size.videos[-1]:,} videos at most; --full measures "
            f"{FULL.rows:,} and {FULL.videos[-1]:,}"
        )
    return Result(figures, ratios, notes)


def _learn(source: Path, settings: Settings, out: Path) -> dict[str, State]:
    """Fit the extractors on the source. Crawls made from it get the same states."""
    context = Context(Store.create(out), settings)
    stages.ingest(context, source)
    plan = context.plan()
    stages.fit(context, plan)
    return {modality: load_state(context.store, artifact) for modality, artifact in plan.states.items()}


class TimedStore(Store):
    """A store that counts the seconds spent in it."""

    spent_s = 0.0

    def exists(self, name: str) -> bool:
        return self._timed(super().exists, name)

    def read(self, name: str) -> bytes:
        return self._timed(super().read, name)

    def write(self, name: str, data: bytes) -> None:
        self._timed(super().write, name, data)

    def _timed(self, work: Callable[..., R], *args: Any) -> R:
        start = time.perf_counter()
        try:
            return work(*args)
        finally:
            self.spent_s += time.perf_counter() - start


class TimedPieces:
    """A `MapItems` on Prefect that measures the time of the first item, of the other items and of the overhead."""

    def __init__(self) -> None:
        self.start_s = 0.0
        """Seconds of the first item."""
        self.video_s = 0.0
        """Seconds per video of the other items."""
        self.outside_s = 0.0
        """Seconds spent outside of the work on any item."""

    def map_items(self, name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
        """Process the items. See `nmcl.flows.run.parts.MapItems`."""
        from nmcl.flows.engine.tasks import in_this_process

        taken: list[float] = []

        def timed(item: WorkItem, progress: Progress) -> R:
            start = time.perf_counter()
            try:
                return work(item, progress)
            finally:
                taken.append(time.perf_counter() - start)

        start = time.perf_counter()
        results = in_this_process(name, timed, items, progress)
        self.outside_s = time.perf_counter() - start - sum(taken)
        self.start_s = taken[0]
        self.video_s = sum(taken[1:]) / sum(item.part.n_videos for item in items[1:])
        return results


def measure_extraction(warm_up: Path, crawl: Path, settings: Settings, states: dict[str, State]) -> dict[str, float]:
    """Extract a crawl after a one-part warm-up crawl, in their own store. Returns seconds, bytes and a share."""
    timed = TimedPieces()
    store = TimedStore(Store.create(crawl.parent / f"out-{crawl.name}").local_path())
    context = Context(store, settings, map_items=timed.map_items)
    stages.ingest(context, warm_up)
    plan = _prepare(context, crawl, states)
    store.spent_s = 0.0
    start = time.perf_counter()
    peak = peak_bytes_above(lambda: stages.extract(context, plan))
    wall_s = time.perf_counter() - start
    in_decoder = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "wall_s": wall_s,
        "start_s": timed.start_s,
        "video_s": timed.video_s,
        "peak_bytes": float(peak + in_decoder),
        "prefect_s": timed.outside_s,
        "store_s": store.spent_s,
        "orchestration_share": (timed.outside_s + store.spent_s) / wall_s,
    }


def _prepare(context: Context, crawl: Path, states: dict[str, State]) -> Plan:
    stages.ingest(context, crawl)
    plan = context.plan()
    for modality, state in states.items():
        save_state(context.store, plan.states[modality], state)
    return plan


def measure_second_run(folder: Path, n_videos: int, settings: Settings, states: dict[str, State]) -> float:
    """Return the seconds that a run takes if nothing is left to extract."""
    _make_rows(folder / "crawl", n_videos)
    context = Context(Store.create(folder / "out"), settings)
    plan = _prepare(context, folder / "crawl", states)
    for _, part in plan.catalogue.parts():
        ids = pa.array([str(i) for i in range(part.n_videos)])
        for modality, artifact in plan.features.items():
            vectors = np.zeros((part.n_videos, plan.extractors.all[modality].dim), np.float32)
            table = pa.table({"video_id": ids, "vector": from_vectors(vectors)})
            write_with_digest(context.store, artifact.part(part.key), encode(table))
        write_failures(context.store, plan.failures, part, (), {})

    def again() -> None:
        stages.ingest(context, folder / "crawl")
        assert runs.missing(runs.up_to(context, "extract"))[0] == "complete"

    return seconds(again, repeats=3)


def measure_ingest(folder: Path, n_rows: int, settings: Settings) -> dict[str, float]:
    """Return the seconds of a first and of a second ingest."""
    _make_rows(folder / "crawl", n_rows)
    context = Context(Store.create(folder / "out"), settings)
    first_s = seconds(lambda: stages.ingest(context, folder / "crawl"))
    again_s = seconds(lambda: stages.ingest(context, folder / "crawl"), repeats=3)
    return {"rows": float(n_rows), "ingest_s": first_s, "rows_per_s": n_rows / first_s, "ingest_again_s": again_s}


LINKS_OF_A_FILE = 10_000
"""Hard links to one file: file systems allow about ten thousand."""


def _make_rows(folder: Path, n_rows: int) -> None:
    """Write a crawl with many links to a few short files, which are not videos and are never decoded."""
    folder.mkdir(parents=True)
    lines = ["video_id,video_path,description,venue"]
    for i in range(n_rows):
        file = folder / f"{i:06d}.mp4"
        if i % LINKS_OF_A_FILE:
            file.hardlink_to(folder / f"{i - i % LINKS_OF_A_FILE:06d}.mp4")
        else:
            file.write_text(f"file {i}")
        lines.append(f"v{i:06d},{file.name},words of video {i},venue {i % 188}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
