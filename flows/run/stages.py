"""The pipeline stages: each reads its inputs and writes its outputs according to the plan. They need no engine.

Each stage creates only what is missing. Its inputs must exist; `nmcl.flows.run.runs` ensures that.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from nmcl.flows.run import texts
from nmcl.flows.run.evaluation import dataset, labels_of, rows_of, stored_model, unlabelled_rows
from nmcl.flows.run.extractors import Extractors
from nmcl.flows.run.parts import CompletePart, ExtractPart, MapItems, loaded_here, run_sequentially, work_items
from nmcl.flows.run.plan import LEFT_OUT, Plan, left_out_of
from nmcl.flows.run.prediction import failures_of
from nmcl.flows.run.stage_progress import StageProgress
from nmcl.flows.settings import Settings, to_tree
from nmcl.model.checkpoint import save as save_model
from nmcl.model.self_training import fit_with_unlabelled
from nmcl.model.trained import fit as fit_model
from nmcl.pipeline.errors import CrawlError, StoreError
from nmcl.pipeline.extractor import Extractor
from nmcl.pipeline.media import Decoder
from nmcl.pipeline.needs import OCR, Text
from nmcl.pipeline.progress import Progress, finishing, silent
from nmcl.pipeline.stages.complete import fit_completion, load_completed, load_features
from nmcl.pipeline.stages.fit import fit_extractor
from nmcl.pipeline.stages.ingest import ingest as ingest_crawl
from nmcl.pipeline.stages.splits import require_trainable
from nmcl.pipeline.storage.artifacts import Artifact, has_state, recipe_file, save_state
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, load_catalogue
from nmcl.pipeline.storage.failures import Failure, Retry
from nmcl.pipeline.storage.run_files import Timing
from nmcl.pipeline.storage.runs import SETTINGS, Run, champion, promote
from nmcl.pipeline.storage.store import Store

R = TypeVar("R")


class RunTask(Protocol):
    """Protocol of an engine's function that runs work which does not belong to a part."""

    def __call__(self, name: str, work: Callable[[], R]) -> R:
        """Run the work under a displayed name."""


def run_inline(name: str, work: Callable[[], R]) -> R:
    """Run the work directly, without an engine."""
    return work()


@dataclass(frozen=True)
class Context:
    """Common inputs of all stages."""

    store: Store
    settings: Settings
    progress: Progress = silent
    map_items: MapItems = run_sequentially
    command: str = ""
    """The command line, for the report."""
    run_task: RunTask = run_inline
    retry: Retry = field(default_factory=Retry)
    """Which recorded failures are retried."""
    tried: set[str] = field(default_factory=set)
    """Addresses of failures and states that this command has retried."""
    stage_progress: StageProgress = field(default_factory=StageProgress)
    """Position among all stages."""

    def stage(self, name: str, steps: Sequence[float] = (1.0,)) -> AbstractContextManager[Progress]:
        """Yield the progress callback for a stage that has work to do. See `StageProgress.of`."""
        return self.stage_progress.of(self.progress, name, steps)

    def plan(self, catalogue_name: str = TRAINING) -> Plan:
        """Return the plan for all ingested videos.

        Raises:
            StoreError: If nothing is ingested.
        """
        catalogue = load_catalogue(self.store, catalogue_name)
        if not catalogue.crawls:
            raise StoreError(
                f"{self.store.url} has no crawl yet. Start with `nmcl ingest CRAWL --out {self.store.url}`."
            )
        return Plan(self.store, catalogue, self.settings)


@contextmanager
def timed(store: Store, stage: str, address: str) -> Iterator[Counter[str]]:
    """Measure a stage, and add its seconds to those of earlier, interrupted attempts.

    Seconds that the block adds to the yielded counter are stored as a breakdown.
    """
    name = f"timings/{stage}-{address}.json"
    before = store.find_record(name, Timing) or Timing(0.0)
    spent: Counter[str] = Counter(before.spent)
    start = time.perf_counter()
    try:
        yield spent
    finally:
        seconds = round(before.seconds + time.perf_counter() - start, 3)
        divided = {"spent": {what: round(s, 3) for what, s in spent.items()}} if spent else {}
        store.write_json(name, {"seconds": seconds, **divided})


def ingest(context: Context, crawl: str | Path, catalogue_name: str = TRAINING) -> Catalogue:
    """Ingest a crawl into the catalogue. See `nmcl.pipeline.stages.ingest.ingest`."""
    settings = context.settings
    start = time.perf_counter()
    before = load_catalogue(context.store, catalogue_name)
    with context.stage("ingest") if catalogue_name == TRAINING else finishing(context.progress) as progress:
        catalogue = ingest_crawl(context.store, crawl, settings.columns, settings.ingest, catalogue_name, progress)
        texts.read_again(context.store, Extractors(settings), catalogue, crawl)
    if catalogue != before and catalogue_name == TRAINING:
        context.store.write_json("timings/ingest.json", {"seconds": round(time.perf_counter() - start, 3)})
    return catalogue


def read_texts(context: Context, plan: Plan) -> Plan:
    """Read the texts besides descriptions that feature sets need, part by part.

    Those on screen are read during extraction, which decodes each file once, unless an extractor is fitted on them.
    """
    extractors = plan.extractors
    n_read = texts.read_missing(context.store, extractors, plan.catalogue, context.progress)
    if OCR in extractors.texts and any(extractors.all[name].need == Text(OCR) for name in plan.planned_states):
        work = ExtractPart(context.store, extractors, {}, {}, plan.failures)
        if items := work.lacking(work_items(plan.catalogue)):
            with loaded_here():
                context.map_items("read text on screen", work, items, context.progress)
            n_read += len(items)
    return replace(plan) if n_read else plan


def fit(context: Context, plan: Plan) -> Plan:
    """Fit each extractor. Returns the refreshed plan, as do all stages."""
    store, plan = context.store, read_texts(context, plan)
    missing = [m for m, planned in plan.planned_states.items() if _is_to_fit(context, planned)]
    if not missing:
        return plan
    folders = {crawl.name: crawl.folder for crawl in plan.catalogue.crawls}
    steps = [step for name in missing for step in _fit_steps(plan.extractors.all[name])]
    with context.stage("fit", steps) as progress, timed(store, "fit", plan.work):
        _fetch_weights(plan)
        with Decoder(context.settings.media) as decoder:
            for name in missing:
                extractor, planned = plan.extractors.all[name], plan.planned_states[name]
                before = left_out_of(store, planned)
                sample = plan.fit_sample(name)
                words = [plan.text(name, video) for video in sample] if isinstance(extractor.need, Text) else None
                fitted = fit_extractor(extractor, sample, folders, decoder, progress, words)
                videos = [{"crawl": v.crawl, "video_id": v.video_id, "kind": f.kind} for v, f in fitted.left_out]
                save_state(store, plan.state(name, videos), fitted.state)
                note = f"{planned.folder}/{LEFT_OUT}"
                if videos:
                    attempts = before.attempts + 1 if before else 1
                    store.write_json(note, {"videos": videos, "attempts": attempts})
                    context.tried.add(planned.address)
                else:
                    store.remove(note)
    return plan.refreshed()


TRAIN_STEPS = (5.0, 3.0, 5.0)
"""About how long `nmcl_stacked`, the default model, takes for its network, the weights of its models, and all rows."""


def _fit_steps(extractor: Extractor) -> tuple[float, float]:
    """Return about how long an extractor takes to read its videos and to fit, relative to others."""
    return (0.5, 2.0) if isinstance(extractor.need, Text) else (5.0, 40.0)


def _is_to_fit(context: Context, planned: Artifact) -> bool:
    """Return whether a state is missing, or was fitted without videos that may be readable now."""
    if has_state(context.store, planned):
        return False
    left_out = left_out_of(context.store, planned)
    if left_out is None:
        return True
    failures = [Failure(None, video["kind"], "", left_out.attempts) for video in left_out.videos]
    return planned.address not in context.tried and any(context.retry.wants(failure) for failure in failures)


def extract(context: Context, plan: Plan) -> Plan:
    """Extract the vectors of every feature set, part by part, and retry files with temporary failures once."""
    plan = read_texts(context, plan)
    work = extraction(context, plan)
    items = work.lacking(work_items(plan.catalogue))
    context.tried.add(plan.failures.address)
    if not items:
        return plan
    with context.stage("extract") as progress:
        _fetch_weights(plan)
        with timed(context.store, "extract", plan.work) as spent, loaded_here():
            for receipt in context.map_items("extract", work, items, progress):
                spent.update(receipt.seconds)
    return plan.refreshed()


def fetch_weights_of_new(store: Store, crawl: str | None, settings: Settings) -> None:
    """Fetch published weights before a first crawl is hashed, which takes long if it is large.

    Raises:
        WeightsError: If they cannot be had. Nothing is made then.
    """
    if crawl and not load_catalogue(store).crawls:
        Extractors(settings).fetch()


def _fetch_weights(plan: Plan) -> None:
    """Fetch published weights, which may have to be downloaded, before minutes of work."""
    parts = [part.key for _, part in plan.catalogue.parts()]
    if not plan.store.has_all(artifact.part(key) for artifact in plan.features.values() for key in parts):
        plan.extractors.fetch()


def extraction(context: Context, plan: Plan) -> ExtractPart:
    """Return the work on a part. Temporary failures are retried once per command."""
    retry = context.retry if plan.failures.address not in context.tried else None
    return ExtractPart(context.store, plan.extractors, plan.states, plan.features, plan.failures, retry)


def has_retries(context: Context, plan: Plan) -> bool:
    """Return whether a command would retry earlier failures."""
    work = extraction(context, plan)
    is_to_fit = any(_is_to_fit(context, planned) for planned in plan.planned_states.values())
    return is_to_fit or bool(work.lacking(work_items(plan.catalogue)))


def complete(context: Context, plan: Plan) -> Plan:
    """Fill in missing modalities, part by part."""
    store = context.store
    items = work_items(plan.catalogue)
    files = [recipe_file(store, plan.completed.folder), *(plan.completed.part(item.part.key) for item in items)]
    if has_state(store, plan.completion) and store.has_all(files):
        return plan
    with context.stage("complete", [1.0] * 3) as progress, timed(store, "complete", plan.work):
        if not has_state(store, plan.completion):
            blocks: dict[str, np.ndarray] = {
                name: load_features(store, plan.catalogue, artifact, plan.fit_rows)
                for name, artifact in plan.features.items()
            }
            _refuse_unreadable(plan, blocks)
            save_state(store, plan.completion, fit_completion(blocks, context.settings.completion, progress))
        work = CompletePart(store, plan.features, plan.completion, plan.completed)
        with loaded_here():
            context.map_items("complete", work, items, progress)
    return plan


def _refuse_unreadable(plan: Plan, blocks: Mapping[str, np.ndarray]) -> None:
    """Raise CrawlError with the reasons if no video has any vector to fit on."""
    if any((~np.isnan(block)).any() for block in blocks.values()):
        return
    failures = [f for fs in failures_of(plan.store, plan.failures, plan.catalogue, plan.videos) for f in fs]
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in Counter(failure.kind for failure in failures).most_common())
    first = f" First failure: {failures[0].detail}." if failures else ""
    raise CrawlError(
        f"None of the {len(plan.videos):,} videos has a usable modality. "
        f"Files that cannot be decoded: {kinds or 'none'}.{first} See {plan.store.where(plan.failures.folder)}."
    )


def train(context: Context, plan: Plan) -> Plan:
    """Train the model on the completed vectors of the training videos."""
    require_trainable(plan.splits)
    run = plan.result
    if run.is_trained:
        return plan
    with context.stage("train", TRAIN_STEPS) as progress, timed(context.store, "train", plan.run.address):
        completed = load_completed(context.store, plan.catalogue, plan.completed)
        choice, labels = context.settings.model, labels_of(plan)
        start = stored_model(Run(context.store, plan.start)) if plan.start else None
        rows, choosing = (
            dataset(completed, labels, rows_of(plan, completed, split)) for split in ("train", "validation")
        )
        chosen = (choosing, plan.splits.classes, choice.options, choice.seed, progress, start)
        if choice.self_training:
            unlabelled = completed.take(unlabelled_rows(plan, completed))
            trained = fit_with_unlabelled(choice.name, rows, unlabelled, *chosen)
        else:
            trained = fit_model(choice.name, rows, *chosen)
        plan.run.note_recipe(context.store)
        run.write_lineage(plan.catalogue, plan.placed)
        context.store.write_json(run.file(SETTINGS), to_tree(context.settings))
        with context.store.folder_to_write(run.folder) as folder:
            save_model(trained, folder)
    return plan


def evaluate(context: Context, plan: Plan) -> Plan:
    """Score the run, predict every video of the store, and write the report. The first run becomes champion."""
    store, run = context.store, plan.result
    run.write_lineage(plan.catalogue, plan.placed)  # runs of earlier versions lack it
    if not run.is_finished:
        with context.stage("evaluate", [1.0] * (2 * len(plan.features) + 1)) as progress:
            from nmcl.flows.run.reporting import evaluate_run  # imports Jinja and SciPy, which no other stage needs

            evaluate_run(plan, progress, context.command)
    store.point("latest", run.folder)
    if champion(store) is None:
        promote(plan.result, "first", "the first run")
    return plan


STAGES: dict[str, Callable[[Context, Plan], Plan]] = {
    "fit": fit,
    "extract": extract,
    "complete": complete,
    "train": train,
    "evaluate": evaluate,
}
"""Stages in the order in which they run."""
