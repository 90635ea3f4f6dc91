"""Task runs with retries, a queue for each store, and artifacts in the Prefect UI.

Import this only with `PREFECT_API_URL` set, or within `nmcl.flows.service.server.embedded`: Prefect reads it on import.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Timer
from typing import Any, TypeVar
from uuid import UUID

from prefect import get_client, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.logging import get_run_logger

from nmcl.flows import console
from nmcl.flows.engine.run_page import markdown_table, run_page
from nmcl.flows.report.numbers import decimal
from nmcl.flows.report.retraining import changed_rows, changed_title, comparison_rows, drift_rows, drift_title
from nmcl.flows.retrain.retrain import Callbacks, Outcome
from nmcl.flows.run.parts import Work, WorkItem, numbered
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.prediction import failures_of
from nmcl.flows.run.worker import JITTER, RETRY_DELAYS_S
from nmcl.flows.service.server import rotate_large_logs
from nmcl.pipeline.errors import StoreError, StoreTakenError
from nmcl.pipeline.escape import markdown_code, markdown_text, visible
from nmcl.pipeline.os_errors import is_transient
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.run_files import ComparisonNote, DriftNote
from nmcl.pipeline.storage.runs import REPORT, RETRAINING_REPORT
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import counted, listed

T = TypeVar("T")
R = TypeVar("R")

LEASE_S = 60.0
"""Seconds for which a store stays locked after the run that held the lock was killed."""
COMMAND_ENDS_WITHIN_S = 3600.0
"""Seconds for which a run waits for an `nmcl` command that has locked the store."""
SAID_AFTER_S = 2.0
"""Seconds for which a run waits for a store before it logs a message; a free store is acquired sooner."""
_SHOWN_EVERY_S = 5.0
_LOGGED_EVERY_S = 60.0


def _worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Return whether to retry a task: I/O errors may be transient; a missing file, a wrong setting or a bug is not."""
    return is_transient(state.data)


@task(
    task_run_name="{stage}-{number}",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=list(RETRY_DELAYS_S),
    retry_jitter_factor=JITTER,
    retry_condition_fn=_worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def numbered_task(stage: str, number: int, work: Callable[[], R]) -> R:
    """Run one work item as a task run, retried if it fails."""
    return work()


def as_tasks(name: str, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Run the items sequentially in this process, each as a task run."""
    one = numbered_task.with_options(name=name)
    return [one(name, number, partial(work, item)) for number, item in enumerate(items)]


def in_this_process(name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
    """Run every part as a task run in this process. See `nmcl.flows.run.parts.MapItems`."""
    return as_tasks(name, numbered(name, work, items, progress), range(len(items)))


def run_task(name: str, work: Callable[[], R]) -> R:
    """Run a function as a task run."""
    return as_tasks(name, lambda _: work(), [None])[0]


@contextmanager
def alone_on(root: str) -> Iterator[Store]:
    """Wait until no other flow run uses a store, and lock it. May be nested, like `Store.locked`.

    Here all runs begin, so this also starts new logs of the service that has grown large ones.

    Raises:
        StoreError: If a command outside of Prefect holds the lock for too long, or the folder is not a store.
    """
    store = Store(root)
    if store.is_held:
        yield store
        return
    if home := os.environ.get("PREFECT_HOME"):
        with suppress(OSError):  # the run reports a full disk itself
            rotate_large_logs(Path(home))
    name = re.sub(r"[^\w.-]+", "-", f"store-{_of_store(store)}")
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):  # two runs may create it at once
        client.upsert_global_concurrency_limit_by_name(name, 1)
    with ExitStack() as stack:
        with _saying(f"Waiting for {store.url}: another run is using it."):
            stack.enter_context(concurrency(name, strict=True, lease_duration=LEASE_S))
        store = Store.create(root)
        _lock(store, stack)
        yield store


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Log what a block waits for, if it takes longer than SAID_AFTER_S."""
    timer = Timer(SAID_AFTER_S, get_run_logger().info, (what,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _lock(store: Store, stack: ExitStack) -> None:
    """Wait while a command outside of Prefect has locked the store. Transient service errors do not end the wait."""
    end, said = time.monotonic() + COMMAND_ENDS_WITHIN_S, False
    while True:
        try:
            stack.enter_context(store.locked())
            return
        except StoreError as error:
            waits = isinstance(error, StoreTakenError) or (said and is_transient(error))
            if not waits or (said and time.monotonic() > end):
                raise
        if not said:
            get_run_logger().info("Waiting for %s: an nmcl command is using it.", store.url)
            said = True
        time.sleep(1.0)


def artifact_key(name: str, store: Store) -> str:
    """Return the key of an artifact of a store: the UI shows the artifacts of one key as versions of one another."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{_of_store(store)}".lower()).strip("-")


def _of_store(store: Store) -> str:
    return f"{Path(store.root).name}-{digest(store.url)}"


class ShownProgress:
    """Progress of a flow run: one artifact per stage in the Prefect UI, lines in its log, and on the console."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = get_run_logger()
        self._artifacts: dict[str, UUID] = {}
        self._shown: dict[str, tuple[float, float]] = {}
        """Time at which each stage was last shown, and its percentage."""
        self._logged: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Update the artifact of a stage. See `nmcl.pipeline.progress.Progress`."""
        console.progress(stage, done, total, note)
        now, percent = time.monotonic(), 100.0 * done / total if total else 100.0
        last, before = self._shown.get(stage, (-_SHOWN_EVERY_S, -1.0))
        if percent == before or (percent < 100.0 and now - last < _SHOWN_EVERY_S):
            return
        self._shown[stage] = now, percent
        text = f"{stage}: {done:,} of {total:,} {note}".rstrip()[: console.SHORT]
        if percent >= 100.0 or now - self._logged.get(stage, -_LOGGED_EVERY_S) >= _LOGGED_EVERY_S:
            self._logged[stage] = now
            self._log.info("%s", visible(text))
        description = markdown_text(text)
        if stage in self._artifacts:
            update_progress_artifact(self._artifacts[stage], percent, description)
        else:
            key = artifact_key(f"progress-{stage}", self._store)
            self._artifacts[stage] = create_progress_artifact(percent, key, description)  # type: ignore[assignment]


def show_outcomes(plan: Plan) -> dict[str, int]:
    """Show a table of the store's videos by outcome, with one example of each kind of failure.

    Returns the videos by outcome: `extracted`, or the kind of the first failure.
    """
    failures = failures_of(plan.store, plan.failures, plan.catalogue, plan.videos)
    counts = Counter(of_video[0].kind if of_video else "extracted" for of_video in failures)
    examples = {
        of_video[0].kind: visible(f"{video.path}: {of_video[0].detail}")
        for video, of_video in zip(plan.videos, failures, strict=True)
        if of_video
    }
    create_table_artifact(
        [{"outcome": kind, "videos": n, "example": examples.get(kind, "")} for kind, n in counts.most_common()],
        key=artifact_key("outcomes", plan.store),
        description=f"{len(failures):,} videos of {markdown_code(plan.store.url)} by outcome",
    )
    log, url = get_run_logger(), plan.store.url
    said = ", ".join(f"{kind} {n:,}" for kind, n in counts.most_common())
    log.info("%s of %s: %s", counted(len(failures), "video"), url, said)
    if examples:
        log.info("`nmcl errors --out %s` lists the failures.", url)
    for name, artifact in plan.features.items():
        log.info("Vectors of %s: %s", name, plan.store.where(artifact.folder))
    return dict(counts)


def show_report(plan: Plan) -> None:
    """Show the scores of a run, its confused venues, and the location of its report."""
    create_markdown_artifact(run_page(plan), key=artifact_key("report", plan.store), description=plan.run.folder)
    run, log = plan.result, get_run_logger()
    metrics = run.require_metrics()
    scores = ", ".join(f"{name} {decimal(getattr(metrics.test, name))}" for name in ("micro_f1", "macro_f1"))
    log.info("%s: %s on %s", run.folder, scores, counted(metrics.test.n_rows, "test video"))
    log.info("Report: %s", plan.store.where(run.file(REPORT)))


class ShownRetraining(Callbacks):
    """Shows the results of a retraining as artifacts in the Prefect UI, and in the run's log."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def extracted(self, plan: Plan) -> None:
        """Show a table of outcomes."""
        show_outcomes(plan)

    def drift_measured(self, note: DriftNote) -> None:
        """Show a table of drift, one row per figure."""
        header, *rows = drift_rows(note)
        create_table_artifact(
            [dict(zip(header, (visible(str(cell), console.SHORT) for cell in row), strict=True)) for row in rows],
            key=artifact_key("drift", self._store),
            description=markdown_text(drift_title(note)),
        )
        exceeded = f"beyond the limits: {listed(note.exceeded)}" if note.exceeded else "within the limits"
        get_run_logger().info("%s: %s", visible(drift_title(note)), exceeded)

    def compared(self, plan: Plan, note: ComparisonNote) -> None:
        """Show the comparison of champion and challenger, and the report of the challenger."""
        show_report(plan)
        verdict = "promoted" if note.verdict.promoted else "not promoted"
        reasons = "\n".join(f"* {markdown_text(reason)}" for reason in note.verdict.reasons)
        pieces = [f"# {markdown_text(note.challenger)} is {verdict}", reasons, _markdown_table(comparison_rows(note))]
        if note.comparison.changed:
            pieces += [markdown_text(changed_title(note)), _markdown_table(changed_rows(note))]
        create_markdown_artifact("\n\n".join(pieces), key=artifact_key("comparison", self._store))
        get_run_logger().info("Comparison: %s", self._store.where(f"{note.challenger}/{RETRAINING_REPORT}"))


def _markdown_table(rows: Sequence[Sequence[Any]]) -> str:
    return markdown_table(rows[0], rows[1:])


def show_outcome(store: Store, outcome: Outcome) -> None:
    """Show the outcome of a retraining in a few words."""
    create_markdown_artifact(
        f"**{outcome.result}**: {markdown_text(outcome.why)}\n\n"
        f"The champion of {markdown_code(store.url)} is {markdown_code(str(outcome.champion))}.\n",
        key=artifact_key("champion", store),
    )
    get_run_logger().info("%s: %s. Champion: %s", outcome.result, visible(outcome.why), outcome.champion)
