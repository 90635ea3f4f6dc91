"""Prefect flows that run the stages. Only names and receipts pass through the engine, never data.

Import this only with `PREFECT_API_URL` set, or within `nmcl.flows.service.server.embedded`: Prefect reads it on import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from prefect.logging import get_run_logger
from pydantic import Field, WithJsonSchema

from nmcl.flows.engine.run_name import run_name
from nmcl.flows.engine.runners import map_by
from nmcl.flows.engine.tasks import (
    ShownProgress,
    ShownRetraining,
    alone_on,
    as_tasks,
    run_task,
    show_outcome,
    show_outcomes,
    show_report,
)
from nmcl.flows.retrain import retrain as retraining
from nmcl.flows.retrain.context import Options, prepare, settings_for
from nmcl.flows.retrain.retrain import Outcome
from nmcl.flows.run import predict, runs, stages
from nmcl.flows.run.sources import crawls_of, is_sample, require_there, settings_of, store_of
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings, from_tree, json_schema
from nmcl.flows.settings_tree import Tree
from nmcl.flows.stored_settings import of_store, remember
from nmcl.pipeline.crawl.sample import SAMPLE_NOTE
from nmcl.pipeline.stages.splits import require_trainable
from nmcl.pipeline.storage.failures import Retry
from nmcl.pipeline.storage.runs import champion
from nmcl.pipeline.storage.shapes import to_json
from nmcl.pipeline.storage.store import Store

Folder = Annotated[str, Field(min_length=1)]
SettingsTree = Annotated[dict[str, Any], WithJsonSchema(json_schema())]
"""Settings with a JSON schema, so that Prefect rejects a wrong setting before it creates a run."""

TRANSIENT_ONES = Retry()


def _context(store: Store, settings: Tree | None, command: str = "") -> Context:
    """Return the context of a flow run. Settings that are not given stay as they are in the store."""
    return _context_with(of_store(store, settings_of(store, settings)), store, command)


def _context_with(settings: Settings, store: Store, command: str = "") -> Context:
    if is_sample(store):
        get_run_logger().warning(SAMPLE_NOTE)
    return Context(store, settings, ShownProgress(store), command=command, run_task=run_task)


@contextmanager
def _with_workers(context: Context) -> Iterator[Context]:
    """Yield the context with the engine's workers, which stop at the end of the block."""
    with map_by(context.settings.engine) as map_items:
        yield replace(context, map_items=map_items)


@flow(name="extract-features", flow_run_name=run_name, validate_parameters=True)
def extract_features(
    crawl: Folder | None = None, out: Folder | None = None, settings: SettingsTree | None = None
) -> dict[str, int]:
    """Ingest a crawl, fit the extractors, extract every modality and complete what is missing.

    Existing results are kept. Returns the number of the store's videos by outcome.

    Args:
        crawl: Folder of videos; default: the crawls in the store.
        out: Folder of the store; default: `out`, or the store of the rendered sample if neither `out` nor a crawl
            exists.
        settings: Nested, as in a settings file; other settings stay as they are in the store.
    """
    require_there(crawl)
    with alone_on(store_of(crawl, out)) as store:
        context = _context(store, settings)
        _ingest(context, crawl)
        remember(store, context.settings)
        return _extract(context)


@flow(name="train-nmcl", flow_run_name=run_name, validate_parameters=True)
def train_nmcl(out: Folder | None = None, settings: SettingsTree | None = None, command: str = "") -> str:
    """Train and evaluate the model on the videos of a store. Returns the folder of the run within the store.

    Args:
        out: Folder of the store; default: `out`, or the store of the rendered sample if there is no `out`.
        settings: Nested, as in a settings file; other settings stay as they are in the store.
        command: Command line to show in the report.
    """
    with alone_on(store_of(None, out)) as store:
        context = _context(store, settings, command)
        require_trainable(context.plan().splits)
        remember(store, context.settings)
        return _train(context)


@flow(name="retrain", flow_run_name=run_name, validate_parameters=True)
def retrain(
    crawl: Folder | None = None,
    out: Folder | None = None,
    settings: SettingsTree | None = None,
    warm_start: bool = False,
    refit: bool = False,
    allow_drift: bool = False,
) -> dict[str, Any]:
    """Ingest new videos of a crawl, train a challenger, and promote it if it is better than the champion.

    The champion's extractors and completer are used. See `nmcl.flows.retrain.retrain`; the promotion rule is in
    `nmcl.model.comparison`. Without a champion, this trains the store's first run. Without new videos, nothing is done.
    Returns the outcome.

    Args:
        crawl: Folder of videos; default: the crawls in the store, to ingest what was added to them.
        out: Folder of the store; default: `out`, or the store of the rendered sample if neither `out` nor a crawl
            exists.
        settings: Nested, as in a settings file; other settings are the champion's.
        warm_start: Start from the champion's weights, if the model is trained by gradient descent.
        refit: Fit the extractors again on all crawls, and keep the earlier ones.
        allow_drift: Continue if the crawl has drifted beyond the limits.
    """
    require_there(crawl)
    with alone_on(store_of(crawl, out)) as store:
        outcome = _retrain(store, crawl, settings, Options(warm_start, refit, allow_drift), is_ingested=False)
    found: dict[str, Any] = to_json(outcome)
    return found


@flow(name="nmcl-run", flow_run_name=run_name, validate_parameters=True)
def nmcl_run(out: str, settings: dict[str, Any], command: str) -> str:
    """Run all stages after ingest, up to an evaluated classifier. Returns the folder of the run within the store.

    Args:
        settings: All settings, nested: those of the store do not count.
    """
    with alone_on(out) as store:
        return _everything(_context_with(from_tree(settings), store, command))


@flow(name="nmcl-retrain", flow_run_name=run_name, validate_parameters=True)
def nmcl_retrain(crawl: str | None, out: str, settings: dict[str, Any], options: Options) -> Outcome:
    """Run `retrain` for crawls that were already ingested if there is a champion (see `already_settled`)."""
    with alone_on(out) as store:
        return _retrain(store, crawl, settings, options, is_ingested=True)


@flow(name="predict-venues", flow_run_name=run_name, validate_parameters=True)
def predict_venues(crawl: str, model: str, out: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Predict the venues of every video of a crawl, and write a Parquet file. Returns counts and scores."""
    frozen = predict.load_run(model, settings or {})
    with map_by(frozen.settings.engine) as map_items:
        return predict.predict(crawl, frozen, Path(out), ShownProgress(frozen.store), map_items)


@flow(name="nmcl-stages", flow_run_name=run_name, validate_parameters=True)
def up_to(out: str, last: str, settings: dict[str, Any], command: str, retry: Retry = TRANSIENT_ONES) -> None:
    """Run the unfinished stages up to `last` on the engine's workers, for commands such as `nmcl extract`.

    Args:
        settings: All settings, nested: those of the store do not count.
    """
    with alone_on(out) as store, _with_workers(_context_with(from_tree(settings), store, command)) as context:
        runs.up_to(replace(context, retry=retry), last)


def _retrain(store: Store, crawl: str | None, settings: Tree | None, options: Options, is_ingested: bool) -> Outcome:
    if champion(store) is None:
        context = _context(store, settings)
        chosen = replace(context, settings=context.settings.only(options.features))
        _ingest(context, crawl)
        remember(store, context.settings)
        return Outcome("first", "there was no champion", _everything(chosen), None)
    context = settings_for(Context(store, Settings(), ShownProgress(store), run_task=run_task), settings or {}, options)
    if not is_ingested:
        _ingest(context, crawl)
    inputs = prepare(context, [crawl] if crawl else None, options)
    with _with_workers(context) as context:
        outcome = retraining.retrain(context, inputs, ShownRetraining(store))
    show_outcome(store, outcome)
    return outcome


def _everything(context: Context) -> str:
    require_trainable(context.plan().splits)  # fail before hours of extraction
    _extract(context)
    return _train(context)


def _ingest(context: Context, crawl: str | None) -> None:
    crawls = crawls_of(crawl, context.store, context.progress)
    as_tasks("ingest", lambda folder: stages.ingest(context, folder), crawls)


def _extract(context: Context) -> dict[str, int]:
    plan = context.plan()
    plan = run_task("fit", partial(stages.fit, context, plan))
    with _with_workers(context) as context:
        plan = stages.extract(context, plan)
        outcomes = show_outcomes(plan)
        stages.complete(context, plan)
    return outcomes


def _train(context: Context) -> str:
    plan = context.plan()
    if left := [stage for stage in runs.missing(plan) if stage in ("fit", "extract", "complete")]:
        with _with_workers(context) as with_workers:
            plan = runs.up_to(with_workers, left[-1])
    run_task("train", lambda: stages.train(context, plan))
    run_task("evaluate", lambda: stages.evaluate(context, plan))
    show_report(plan)
    return plan.run.folder
