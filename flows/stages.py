"""The stages, wired: what each takes from the plan and where it puts what it makes. They run with no engine.

Each makes only what is missing, and everything before it must have been made; `flows.runs` sees to that.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from flows import lineage
from flows.champion import crown
from flows.evaluation import dataset, evaluate_run, labels_of, rows_of, stored_model
from flows.parts import CompletePart, Each, ExtractPart, in_turn, loaded_here, pieces_of
from flows.plan import Plan
from flows.prediction import failures_of
from flows.settings import Settings, to_tree
from model.checkpoint import save as save_model
from model.trained import fit as fit_model
from pipeline import champions
from pipeline.artifacts import has_state, save_state
from pipeline.catalogue import TRAINING, Catalogue, load_catalogue
from pipeline.complete import fit_completion, load_completed, load_features
from pipeline.errors import CrawlError, StoreError
from pipeline.extract import Receipt
from pipeline.fit import fit_extractor
from pipeline.ingest import ingest as ingest_crawl
from pipeline.media import Decoder
from pipeline.progress import Progress, silent
from pipeline.records import MODALITIES
from pipeline.splits import require_trainable
from pipeline.store import Store

R = TypeVar("R")


class Once(Protocol):
    """How an engine does one piece of work that is not of a part."""

    def __call__(self, name: str, work: Callable[[], R]) -> R:
        """Args: name: of the work, for people."""


def at_once(name: str, work: Callable[[], R]) -> R:
    """No engine."""
    return work()


@dataclass(frozen=True)
class Context:
    """What every stage works with."""

    store: Store
    settings: Settings
    progress: Progress = silent
    each: Each = in_turn
    command: str = ""
    """The command line, for the report."""
    once: Once = at_once

    def plan(self, catalogue_name: str = TRAINING) -> Plan:
        """The plan for what is ingested now.

        Raises:
            StoreError: nothing is.
        """
        catalogue = load_catalogue(self.store, catalogue_name)
        if not catalogue.crawls:
            raise StoreError(
                f"{self.store.url} holds no crawl yet. Start with `nmcl ingest CRAWL --out {self.store.url}`."
            )
        return Plan(self.store, catalogue, self.settings)


@contextmanager
def timed(store: Store, stage: str, address: str) -> Iterator[Counter[str]]:
    """Add the seconds that a stage worked to what it worked before it was interrupted.

    What is counted in the block tells how they divide.
    """
    name = f"timings/{stage}-{address}.json"
    before: dict[str, Any] = store.read_json(name) if store.exists(name) else {"seconds": 0.0}
    spent: Counter[str] = Counter(before.get("spent", {}))
    start = time.perf_counter()
    try:
        yield spent
    finally:
        seconds = round(before["seconds"] + time.perf_counter() - start, 3)
        divided = {"spent": {what: round(s, 3) for what, s in spent.items()}} if spent else {}
        store.write_json(name, {"seconds": seconds, **divided})


def ingest(context: Context, crawl: str | Path, catalogue_name: str = TRAINING) -> Catalogue:
    """Read a crawl into the catalogue. See `pipeline.ingest.ingest`."""
    settings = context.settings
    start = time.perf_counter()
    before = load_catalogue(context.store, catalogue_name)
    catalogue = ingest_crawl(context.store, crawl, settings.columns, settings.ingest, catalogue_name, context.progress)
    if catalogue != before and catalogue_name == TRAINING:
        context.store.write_json("timings/ingest.json", {"seconds": round(time.perf_counter() - start, 3)})
    return catalogue


def fit(context: Context, plan: Plan) -> None:
    """Let each extractor learn."""
    missing = [m for m, artifact in plan.states.items() if not has_state(context.store, artifact)]
    if not missing:
        return
    folders = {crawl.name: crawl.folder for crawl in plan.catalogue.crawls}
    frames = plan.extractors.visual.frames
    with timed(context.store, "fit", plan.work), Decoder(context.settings.media) as decoder:
        for modality in missing:
            extractor = plan.extractors.all[modality]
            sample = plan.fit_sample(modality)
            state = fit_extractor(extractor, sample, folders, frames, decoder, context.progress)
            save_state(context.store, plan.states[modality], state)


def extract(context: Context, plan: Plan) -> list[Receipt]:
    """Vectors of every modality, part by part."""
    pieces = pieces_of(plan.catalogue)
    written = [*plan.features.values(), plan.failures]
    if context.store.has_all(artifact.part(piece.part.key) for artifact in written for piece in pieces):
        return []
    work = ExtractPart(context.store, plan.extractors, plan.states, plan.features, plan.failures)
    with timed(context.store, "extract", plan.work) as spent, loaded_here():
        receipts = context.each("extract", work, pieces, context.progress)
        for receipt in receipts:
            spent.update(receipt.seconds)
    return receipts


def complete(context: Context, plan: Plan) -> None:
    """Fill in missing modalities, part by part."""
    store = context.store
    pieces = pieces_of(plan.catalogue)
    if has_state(store, plan.completion) and store.has_all(plan.completed.part(p.part.key) for p in pieces):
        return
    with timed(store, "complete", plan.work):
        if not has_state(store, plan.completion):
            blocks: dict[str, np.ndarray] = {
                m: load_features(store, plan.catalogue, plan.features[m], plan.fit_rows) for m in MODALITIES
            }
            _refuse_unreadable(plan, blocks)
            save_state(store, plan.completion, fit_completion(blocks, context.settings.completion, context.progress))
        work = CompletePart(store, plan.features, plan.completion, plan.completed)
        with loaded_here():
            context.each("complete", work, pieces, context.progress)


def _refuse_unreadable(plan: Plan, blocks: Mapping[str, np.ndarray]) -> None:
    """Raises CrawlError where there is nothing to learn from, and says why."""
    if any((~np.isnan(block)).any() for block in blocks.values()):
        return
    failures = [f for f in failures_of(plan.store, plan.failures, plan.catalogue, plan.videos) if f]
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in Counter(failure.kind for failure in failures).most_common())
    first = f" The first: {failures[0].detail}." if failures else ""
    raise CrawlError(
        f"None of the {len(plan.videos):,} videos gave anything to learn from. "
        f"Files that do not decode: {kinds or 'none'}.{first} See {plan.store.where(plan.failures.folder)}."
    )


def train(context: Context, plan: Plan) -> None:
    """Train the model on the completed vectors of the training videos."""
    require_trainable(plan.splits)
    if context.store.exists(f"{plan.run.folder}/model.json"):
        return
    with timed(context.store, "train", plan.run.address):
        completed = load_completed(context.store, plan.catalogue, plan.completed, MODALITIES)
        choice, labels = context.settings.model, labels_of(plan)
        start = stored_model(context.store, plan.start) if plan.start else None
        trained = fit_model(
            choice.name,
            dataset(completed, labels, rows_of(plan, completed, "train")),
            dataset(completed, labels, rows_of(plan, completed, "validation")),
            plan.splits.venues,
            choice.options,
            choice.seed,
            context.progress,
            start,
        )
        plan.run.note_recipe(context.store)
        lineage.note(context.store, plan.run.folder, plan.catalogue, plan.placed)
        context.store.write_json(f"{plan.run.folder}/settings.json", to_tree(context.settings))
        with context.store.folder_to_write(plan.run.folder) as folder:
            save_model(trained, folder)


def evaluate(context: Context, plan: Plan) -> None:
    """Score the run, predict every video of the store, and write the report. The first run becomes champion."""
    store, run = context.store, plan.run.folder
    if not store.exists(f"{run}/metrics.json"):
        evaluate_run(plan, context.progress, context.command)
    store.point("latest", run)
    lineage.note(store, run, plan.catalogue, plan.placed)  # a run of an earlier version lacks it
    if champions.champion(store) is None:
        crown(store, run, "first", "the first run")


STAGES: dict[str, Callable[[Context, Plan], object]] = {
    "fit": fit,
    "extract": extract,
    "complete": complete,
    "train": train,
    "evaluate": evaluate,
}
"""In the order they are done."""
