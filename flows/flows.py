"""The Prefect flows. Each wraps the plain stages; the engine carries names and receipts, never data.

Import this only with `PREFECT_API_URL` set, or within `flows.server.embedded`: Prefect reads it on import.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import console, predict, runs, stages
from flows.settings import Settings, from_tree
from flows.stages import Context
from pipeline.splits import require_trainable
from pipeline.store import Store

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 2
RETRY_DELAYS_S = [2.0, 10.0]


def _worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Reading and writing may succeed later; a wrong setting or a mistake in our code will not."""
    return isinstance(state.data, OSError)


def as_tasks(name: str, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Each item as a task run of its own, retried when it fails. See `flows.stages.Each`."""

    @task(
        name=name,
        task_run_name=f"{name}-{{number}}",
        retries=RETRIES,
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=_worth_retrying,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def one(number: int) -> R:
        return work(items[number])

    return [one(number) for number in range(len(items))]


def _once(name: str, work: Callable[[], R]) -> R:
    return as_tasks(name, lambda _: work(), [None])[0]


def _context(out: str, settings: Settings, command: str) -> Context:
    return Context(Store.create(out), settings, console.progress, as_tasks, command)


@flow(name="extract-features", validate_parameters=True)
def extract_features(crawl: str, out: str, settings: dict[str, Any] | None = None) -> dict[str, int]:
    """Ingest a crawl, fit the extractors, extract every modality and complete what is missing.

    Args:
        crawl: folder of videos.
        out: folder of the store.
        settings: nested, as in a settings file; what is not named keeps its default.
    """
    context = _context(out, from_tree(settings or {}), "")
    with context.store.locked():
        _once("ingest", lambda: stages.ingest(context, Path(crawl)))
        plan = context.plan()
        _once("fit", lambda: stages.fit(context, plan))
        receipts = stages.extract(context, plan)
        stages.complete(context, plan)
        return {
            "videos": plan.catalogue.n_videos,
            "parts": len(list(plan.catalogue.parts())),
            "failed": sum(receipt.n_failed for receipt in receipts),
        }


@flow(name="train-nmcl", validate_parameters=True)
def train_nmcl(out: str, settings: dict[str, Any] | None = None, command: str = "") -> str:
    """Train and evaluate the model on what a store holds. Returns the folder of the run within the store."""
    context = _context(out, from_tree(settings or {}), command)
    with context.store.locked():
        plan = context.plan()
        require_trainable(plan.splits)
        if left := [stage for stage in runs.missing(plan) if stage in ("fit", "extract", "complete")]:
            runs.up_to(context, left[-1])
        _once("train", lambda: stages.train(context, plan))
        _once("evaluate", lambda: stages.evaluate(context, plan))
        return plan.run.folder


@flow(name="nmcl-run", validate_parameters=True)
def nmcl_run(crawl: str, out: str, settings: dict[str, Any] | None = None, command: str = "") -> str:
    """From a folder of videos to an evaluated classifier. Returns the folder of the run within the store."""
    context = _context(out, from_tree(settings or {}), command)
    with context.store.locked():
        stages.ingest(context, Path(crawl))
        require_trainable(context.plan().splits)  # before hours of extraction, not after
        extract_features(crawl, out, settings)
        return train_nmcl(out, settings, command)


@flow(name="predict-venues", validate_parameters=True)
def predict_venues(crawl: str, model: str, out: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Venues of every video of a crawl, by a trained model, into one Parquet file. Returns counts and scores."""
    return predict.predict(Path(crawl), Path(model), Path(out), settings or {}, console.progress, as_tasks)
