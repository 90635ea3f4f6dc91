"""Commands that create a run, in one step or stage by stage."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command, context_of
from nmcl.flows.cli.options import (
    Crawl,
    CrawlOptions,
    ExtractOptions,
    FeatureOptions,
    KnownStore,
    MaybeOut,
    Out,
    RunOptions,
    SomeCrawl,
    names_in,
)
from nmcl.pipeline.errors import UserError


@command(
    "nmcl run crawl --out out",
    "nmcl run --out out",
    "nmcl run crawl --out out --set features.visual.extractor=efficientnet_lite0 --set split.min_venue_videos=20",
    "nmcl run crawl --out out --engine ray --workers 8",
    "nmcl run s3://bucket/crawl --out s3://bucket/out",
)
def run(out: Out, crawl: SomeCrawl = None, *, options: RunOptions) -> None:
    """Run all stages, from a folder of videos to an evaluated venue classifier.

    Without a crawl, it continues with the videos that the store has.

    The stages after ingest run as a Prefect flow on an embedded server, which the command starts if there is work to do
    and stops at the end. Running the command again only does what is missing. The store remembers its settings: `--set`
    and `--config` change the settings they name, for this and for later commands. `--features` is a choice for this
    command only: the run uses these feature sets, and the store keeps all of them.
    """
    from nmcl.flows.cli import failed, summary
    from nmcl.flows.run import runs, stages
    from nmcl.flows.run.sources import require_there
    from nmcl.flows.service.server import embedded
    from nmcl.flows.settings import to_tree
    from nmcl.flows.stored_settings import of_store, remember
    from nmcl.pipeline.storage.store import Store

    require_there(crawl)
    settings = of_store(Store.open(out) if crawl is None else Store(out), options.changes())
    context = context_of(out, settings.only(names_in(options.features)))
    with context.store.locked(), console.showing_progress():
        remember(context.store, settings)
        if crawl is not None:
            stages.ingest(context, crawl)
        is_new = not runs.is_complete(context)
        if is_new:
            with embedded():
                from nmcl.flows.engine.flows import nmcl_run

                nmcl_run(context.store.url, to_tree(context.settings), context.command)
    summary.of_run(context.store, is_new)
    failed.refuse_failed(context.plan())


@command(
    "nmcl ingest crawl --out out",
    "nmcl ingest crawl --out out --label-col place",
    "nmcl ingest crawl --dry-run",
    "nmcl ingest crawl --dry-run --json",
)
def ingest(
    crawl: Crawl,
    out: MaybeOut = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what the crawl holds; nothing is written.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON; with --dry-run.")] = False,
    *,
    options: CrawlOptions,
) -> None:
    """Read a crawl into the store's catalogue: manifest, content hashes and splits. Decodes no video.

    `--dry-run` shows what a crawl holds before hours of work: columns and what they were taken for, labels, unusable
    rows, missing files, duplicates, size, and how many classes each `split.min_venue_videos` would keep. It decodes a
    sample of 20 videos. It needs no store; with `--out` it uses the settings of that store.
    """
    from nmcl.flows.cli import ingest_summary, summary
    from nmcl.flows.run import stages
    from nmcl.flows.run.sources import require_there
    from nmcl.flows.settings import changed
    from nmcl.flows.stored_settings import in_current_form, of_store, remember, unchecked
    from nmcl.pipeline.stages.preview import preview
    from nmcl.pipeline.storage.store import Store

    if out is None and not dry_run:
        raise UserError("--out is missing: the folder or URL of the store. Without a store, use --dry-run.")
    if json and not dry_run:
        raise UserError("--json is for --dry-run. `nmcl runs --out OUT --json` describes a store.")
    require_there(crawl)
    changes = options.changes()
    if dry_run:
        known = unchecked(Store(out), changes) if out else changed({}, in_current_form(changes))
        with console.showing_progress():
            found = preview(crawl, known.columns, known.ingest, known.split, known.media, progress=console.progress)
        ingest_summary.of_preview(found, json)
        return
    context = context_of(out or "", of_store(Store(out or ""), changes))
    with context.store.locked(), console.showing_progress():
        stages.ingest(context, crawl)
        remember(context.store, context.settings)
    summary.of_catalogue(context.plan())


@command("nmcl fit --out out")
def fit(out: KnownStore, options: FeatureOptions) -> None:
    """Fit the extractors: the autoencoder on sound, the paragraph vectors on descriptions."""
    _up_to("fit", out, options)


@command(
    "nmcl extract --out out",
    "nmcl extract crawl --out out --export parquet=features.parquet --export torch",
    "nmcl extract --out out --set features.visual.weights=resnet50.pth",
    "nmcl extract --out out --features visual,acoustic",
    "nmcl extract --out out --engine dask --workers 32 --address tcp://scheduler:8786",
)
def extract(
    out: Out,
    crawl: SomeCrawl = None,
    export: Annotated[
        list[str] | None,
        typer.Option("--export", metavar="FORMAT=PATH", help="Export features at the end; repeatable."),
    ] = None,
    *,
    options: RunOptions,
) -> None:
    """Extract every modality of every video. Runs unfinished earlier stages first.

    A named crawl is ingested first; no labels are needed. Each `--export` writes a file or folder at the end, like
    `nmcl export`, and replaces that of an earlier command.

    Files that are missing, have changed, time out or crash their decoder are retried, up to three attempts in total.
    `nmcl errors` lists all failures; `nmcl retry` retries any of them.
    """
    from nmcl.flows.cli import failed, summary
    from nmcl.flows.run import export as exports
    from nmcl.flows.run.sources import require_there

    requests = [exports.wanted(text) for text in export or ()]  # fail before hours of extraction
    require_there(crawl)
    plan = _up_to("extract", out, options, crawl=crawl)
    for request in requests:
        with console.showing_progress():
            found = exports.read(plan, request, console.progress)
            written = exports.write(found, request)
        summary.of_export(found, request, written)
    failed.refuse_failed(plan)


@command("nmcl complete --out out", "nmcl complete --out out --set completion.method=als")
def complete(out: KnownStore, options: ExtractOptions) -> None:
    """Fill in missing modalities. Runs unfinished earlier stages first."""
    _up_to("complete", out, options)


@command("nmcl train --out out", "nmcl train --out out --set model.name=logistic")
def train(out: KnownStore, options: FeatureOptions) -> None:
    """Train the model. Runs unfinished earlier stages first."""
    _up_to("train", out, options)


@command("nmcl evaluate --out out")
def evaluate(out: KnownStore, options: FeatureOptions) -> None:
    """Score the model, predict every video and write the report. Runs unfinished earlier stages first."""
    _up_to("evaluate", out, options)


@command(
    "nmcl retry --out out",
    "nmcl retry --out out --kind timeout --set media.timeout_s=1800",
    "nmcl retry --out out --kind unreadable",
)
def retry(
    out: KnownStore,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Retry only this kind of failure; see `nmcl errors`.")
    ] = None,
    *,
    options: ExtractOptions,
) -> None:
    """Retry failed videos, regardless of earlier attempts, and update features and completion.

    Only these files are decoded; vectors of other videos do not change. Existing runs keep their models and scores;
    `nmcl run` trains a new model that includes the recovered videos.
    """
    from nmcl.flows.cli import failed
    from nmcl.flows.stored_settings import of_store
    from nmcl.pipeline.storage.failures import WHAT_TO_DO
    from nmcl.pipeline.storage.store import Store

    kinds = frozenset(WHAT_TO_DO) - {failed.REJECTED}
    if kind is not None:
        failed.require_kind(kind, kinds)
    store = Store.open(out)
    settings = of_store(store, options.changes())
    tried = {(v.crawl, v.video_id) for v in failed.failed_videos(store, settings, kind) if v.kind in kinds}
    _up_to("complete", out, options, frozenset({kind}) if kind else kinds)
    left = {(v.crawl, v.video_id) for v in failed.failed_videos(store, settings)}
    n_tried, n_left = len(tried), len(tried & left)
    console.say(f"Retried: {n_tried:,}; recovered: {n_tried - n_left:,}; still failed: {n_left:,}.")


def _up_to(
    name: str, out: str, options: FeatureOptions, kinds: frozenset[str] | None = None, crawl: str | None = None
) -> Any:
    """Run the unfinished stages up to the named one. Returns the plan.

    Args:
        kinds: Failures that are retried regardless of their attempts; None: temporary ones, three attempts in total.
        crawl: Ingested first; None: the store must exist.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.run import runs, stages
    from nmcl.flows.run.workers import local_map
    from nmcl.flows.service.server import embedded
    from nmcl.flows.settings import to_tree
    from nmcl.flows.stored_settings import of_store, remember
    from nmcl.pipeline.storage.failures import Retry
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out) if crawl is None else Store(out)
    settings = of_store(store, options.changes())
    wanted = settings.only(names_in(options.features))
    stages.fetch_weights_of_new(store, crawl, wanted)
    context = context_of(out, wanted)
    if kinds is not None:
        context = replace(context, retry=Retry(kinds, max_attempts=None))
    engine = context.settings.engine
    with context.store.locked(), console.showing_progress():
        remember(context.store, settings)
        if crawl is not None:
            stages.ingest(context, crawl)
        if engine.needs_prefect and not engine.is_own_process:
            with embedded():
                from nmcl.flows.engine.flows import up_to

                up_to(context.store.url, name, to_tree(context.settings), context.command, context.retry)
            context.tried.add(context.plan().failures.address)
        with local_map(engine) as map_items:
            plan = runs.up_to(replace(context, map_items=map_items), name)
    summary.of_stage(name, plan)
    return plan
