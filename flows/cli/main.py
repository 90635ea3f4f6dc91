"""The command line: parse, call, print."""

import io
import os
import signal
import sys
import traceback
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import typer

from nmcl import __version__
from nmcl.pipeline.errors import CrawlError, NmclError, UserError
from nmcl.pipeline.escape import visible
from nmcl.pipeline.os_errors import DISK_FAULTS, store_error
from nmcl.pipeline.scratch import sweep

app = typer.Typer(
    name="nmcl",
    help="From folders of crawled micro-videos to venue predictions.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

INTERRUPTED = 130
"""Exit code that Typer gives to a command that Ctrl-C ended."""

FOUND_SOMETHING = 6
"""Exit code of a command that checks, where something is wrong."""

Crawl = Annotated[
    str, typer.Argument(help="Folder or URL of videos, with a manifest, sidecars, or neither.", show_default=False)
]
Out = Annotated[
    str, typer.Option("--out", help="Folder or URL of the store; made if it is not there.", show_default=False)
]
Config = Annotated[Path | None, typer.Option("--config", help="Settings in a TOML file.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help="One setting; may be repeated.")
]
PathColumn = Annotated[str | None, typer.Option("--path-col", help="Manifest column of the video's path.")]
TextColumn = Annotated[
    str | None, typer.Option("--text-col", help="Manifest column or sidecar key of the description.")
]
LabelColumn = Annotated[str | None, typer.Option("--label-col", help="Manifest column or sidecar key of the venue.")]
IdColumn = Annotated[str | None, typer.Option("--id-col", help="Manifest column or sidecar key of the video's name.")]
Engine = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="Who extracts: processes, threads, ray or dask.")
]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Parts of the crawl that are done at a time.")]
Address = Annotated[
    str | None, typer.Option("--address", metavar="URL", help="A Ray or Dask cluster that runs; else one is started.")
]


def _epilog(*examples: str) -> str:
    return "\n\n".join(["**Examples**", *(f"`{example}`" for example in examples)])


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nmcl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the full trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["NMCL_DEBUG"] = "1"


@app.command(
    epilog=_epilog(
        "nmcl run crawl --out out",
        "nmcl run crawl --out out --set visual.backbone=efficientnet_lite0 --set split.min_venue_videos=20",
        "nmcl run crawl --out out --engine ray --workers 8",
        "nmcl run s3://bucket/crawl --out s3://bucket/out",
    )
)
def run(
    crawl: Crawl,
    out: Out,
    config: Config = None,
    sets: Sets = None,
    path_col: PathColumn = None,
    text_col: TextColumn = None,
    label_col: LabelColumn = None,
    id_col: IdColumn = None,
    engine: Engine = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """From a folder of videos to an evaluated venue classifier: all stages, those after ingest as a Prefect flow.

    The command starts and stops an embedded Prefect server where anything is left to do. The same command again does
    only what is missing. A store keeps its settings: `--set` and `--config` change what they name, now and for later
    commands.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import failed, summary
    from nmcl.flows.run import runs, stages
    from nmcl.flows.run.sources import require_there
    from nmcl.flows.service.server import embedded
    from nmcl.flows.settings import of_store, remember, to_tree
    from nmcl.pipeline.storage.store import Store

    require_there(crawl)
    changes = _changes(config, sets, _columns(path_col, text_col, label_col, id_col), _engine(engine, workers, address))
    context = _context(out, of_store(Store(out), changes))
    with context.store.locked(), console.showing_progress():
        remember(context.store, context.settings)
        stages.ingest(context, crawl)
        is_new = not runs.is_complete(context)
        if is_new:
            with embedded():
                from nmcl.flows.engine.flows import nmcl_run

                nmcl_run(context.store.url, to_tree(context.settings), context.command)
    summary.of_run(context.store, is_new)
    failed.refuse_failed(context.plan())


@app.command(epilog=_epilog("nmcl ingest crawl --out out", "nmcl ingest crawl --out out --label-col place"))
def ingest(
    crawl: Crawl,
    out: Out,
    config: Config = None,
    sets: Sets = None,
    path_col: PathColumn = None,
    text_col: TextColumn = None,
    label_col: LabelColumn = None,
    id_col: IdColumn = None,
) -> None:
    """Read a crawl into the store's catalogue: manifest, content hashes, splits. Nothing is decoded yet."""
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.flows.run import stages
    from nmcl.flows.run.sources import require_there
    from nmcl.flows.settings import of_store, remember
    from nmcl.pipeline.storage.store import Store

    require_there(crawl)
    changes = _changes(config, sets, _columns(path_col, text_col, label_col, id_col))
    context = _context(out, of_store(Store(out), changes))
    with context.store.locked(), console.showing_progress():
        stages.ingest(context, crawl)
        remember(context.store, context.settings)
    summary.of_catalogue(context.plan())


def _stage(name: str, out: str, changes: dict[str, Any], kinds: frozenset[str] | None = None) -> Any:
    """Do what is missing up to a stage. Returns the plan.

    Args:
        kinds: failures that are tried again however often that was done; None: those that may pass, three times in all.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.flows.run import runs
    from nmcl.flows.settings import of_store, remember
    from nmcl.pipeline.storage.failures import Retry
    from nmcl.pipeline.storage.store import Store

    context = _context(out, of_store(Store.open(out), changes))
    if kinds is not None:
        context = replace(context, retry=Retry(kinds, max_attempts=None))
    with context.store.locked(), console.showing_progress():
        remember(context.store, context.settings)
        if not context.settings.engine.is_own_process:
            _by_workers(context, name)
            context.tried.add(context.plan().failures.address)
        plan = runs.up_to(context, name)
    summary.of_stage(name, plan)
    return plan


def _by_workers(context: Any, name: str) -> None:
    """The stages up to `name`, on the Prefect server that workers need."""
    from nmcl.flows.service.server import embedded
    from nmcl.flows.settings import to_tree

    with embedded():
        from nmcl.flows.engine.flows import up_to

        up_to(context.store.url, name, to_tree(context.settings), context.command, context.retry)


@app.command(epilog=_epilog("nmcl fit --out out"))
def fit(out: Out, config: Config = None, sets: Sets = None) -> None:
    """Let the extractors learn: the autoencoder from sound, the paragraph vectors from descriptions."""
    _stage("fit", out, _changes(config, sets))


@app.command(
    epilog=_epilog(
        "nmcl extract --out out",
        "nmcl extract --out out --set visual.weights=resnet50.pth",
        "nmcl extract --out out --engine dask --workers 32 --address tcp://scheduler:8786",
    )
)
def extract(
    out: Out,
    config: Config = None,
    sets: Sets = None,
    engine: Engine = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Extract every modality of every video; does first what is missing before it.

    Files that are missing, took too long or crashed their decoder are tried again, three times in all. `nmcl errors`
    lists what failed, `nmcl retry` tries any of it again.
    """
    from nmcl.flows.cli import failed

    plan = _stage("extract", out, _changes(config, sets, _engine(engine, workers, address)))
    failed.refuse_failed(plan)


@app.command(
    epilog=_epilog(
        "nmcl retry --out out",
        "nmcl retry --out out --kind timeout --set media.timeout_s=1800",
        "nmcl retry --out out --kind unreadable",
    )
)
def retry(
    out: Out,
    kind: Annotated[str | None, typer.Option("--kind", help="Only failures of this kind; see `nmcl errors`.")] = None,
    config: Config = None,
    sets: Sets = None,
    engine: Engine = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Try failed videos again, however often that was done, and complete what comes of it.

    Only these files are decoded; vectors of other videos stay as they are. Runs that were trained before keep their
    models and scores: `nmcl run` trains one with the videos that were recovered.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import failed
    from nmcl.flows.settings import of_store
    from nmcl.pipeline.storage.failures import WHAT_TO_DO
    from nmcl.pipeline.storage.store import Store

    kinds = frozenset(WHAT_TO_DO) - {failed.REJECTED}
    if kind is not None and kind not in kinds:
        raise UserError(f"--kind {kind}: no such kind of failure. Expected one of {', '.join(sorted(kinds))}.")
    store = Store.open(out)
    changes = _changes(config, sets, _engine(engine, workers, address))
    settings = of_store(store, changes)
    tried = {(v.crawl, v.video_id) for v in failed.failed_videos(store, settings, kind) if v.kind in kinds}
    _stage("complete", out, changes, frozenset({kind}) if kind else kinds)
    left = {(v.crawl, v.video_id) for v in failed.failed_videos(store, settings)}
    n_tried, n_left = len(tried), len(tried & left)
    console.say(f"Tried again: {n_tried:,}; recovered: {n_tried - n_left:,}; still failed: {n_left:,}.")


@app.command(
    epilog=_epilog(
        "nmcl errors --out out",
        "nmcl errors --out out --kind unreadable",
        "nmcl errors --out out --kind timeout --csv > timeouts.csv",
    )
)
def errors(
    out: Out = "out",
    kind: Annotated[str | None, typer.Option("--kind", help="List every video that failed in this way.")] = None,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets.")] = False,
) -> None:
    """List what could not be had of which videos, and what to do about it.

    One row for each kind of failure; with `--kind`, one for each video.
    """
    from nmcl.flows.cli import failed, summary
    from nmcl.flows.settings import of_store
    from nmcl.pipeline.storage.store import Store

    if json and csv:
        raise UserError("--json and --csv exclude each other. Choose one of them.")
    store = Store.open(out)
    videos = list(failed.failed_videos(store, of_store(store, {}), kind))
    rows = videos if kind else failed.by_kind(videos)
    kinds = failed.FailedVideo if kind else failed.FailedKind
    summary.of_rows(rows, kinds, "json" if json else "csv" if csv else "table", f"Failures of {store.url}")


@app.command(epilog=_epilog("nmcl verify --out out", "nmcl verify --out out --json", "nmcl verify --out out --repair"))
def verify(
    out: Out = "out",
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is wrong, so that the next command makes it again.")
    ] = False,
    sources: Annotated[
        int, typer.Option("--sources", min=0, help="Files of each crawl that are read again and compared.")
    ] = 32,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check every part of a store against its recipe, its digest and the catalogue, and some of the source files.

    Ends with exit code 6 where something is wrong, and with 0 where `--repair` has removed all of it.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.pipeline.stages import verify as checks
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with console.showing_progress():
        findings = checks.verify(store, sources, progress=console.progress)
        if repair and findings.problems:
            with store.locked():
                checks.repair(store, findings)
    summary.of_verification(store, findings, repair, json)
    left = [problem for problem in findings.problems if not (repair and problem.removes)]
    if left:
        raise typer.Exit(FOUND_SOMETHING)


@app.command(epilog=_epilog("nmcl complete --out out", "nmcl complete --out out --set completion.method=als"))
def complete(
    out: Out,
    config: Config = None,
    sets: Sets = None,
    engine: Engine = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Fill in missing modalities; does first what is missing before it."""
    _stage("complete", out, _changes(config, sets, _engine(engine, workers, address)))


@app.command(epilog=_epilog("nmcl train --out out", "nmcl train --out out --set model.name=logistic"))
def train(out: Out, config: Config = None, sets: Sets = None) -> None:
    """Train the model; does first what is missing before it."""
    _stage("train", out, _changes(config, sets))


@app.command(epilog=_epilog("nmcl evaluate --out out"))
def evaluate(out: Out, config: Config = None, sets: Sets = None) -> None:
    """Score the model, predict every video and write the report; does first what is missing before it."""
    _stage("evaluate", out, _changes(config, sets))


@app.command(
    epilog=_epilog(
        "nmcl retrain new-crawl --out out",
        "nmcl retrain new-crawl --out out --warm-start --set promotion.min_gain=0.005",
        "nmcl retrain new-crawl --out out --refit --allow-drift --set visual.backbone=resnet101",
    )
)
def retrain(
    crawl: Annotated[
        str | None, typer.Argument(help="Folder or URL of new videos; without it, those that the store knows.")
    ] = None,
    out: Out = "out",
    warm_start: Annotated[bool, typer.Option("--warm-start", help="Start from the champion's weights.")] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Let the extractors learn anew from all crawls, beside those there are.")
    ] = False,
    allow_drift: Annotated[bool, typer.Option("--allow-drift", help="Go on where the crawl has drifted.")] = False,
    config: Config = None,
    sets: Sets = None,
    path_col: PathColumn = None,
    text_col: TextColumn = None,
    label_col: LabelColumn = None,
    id_col: IdColumn = None,
    engine: Engine = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Take up a new crawl, train a challenger, and promote it only if it is better than the champion.

    Extractors and completion stay the champion's, and so do its test videos. Drift beyond the limits of `[drift]` stops
    the run with exit code 4; the rule of promotion is `[promotion]`.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.flows.retrain import retrain as retraining
    from nmcl.flows.retrain.context import Options
    from nmcl.flows.service.server import embedded

    changes = _changes(config, sets, _columns(path_col, text_col, label_col, id_col), _engine(engine, workers, address))
    options = Options(warm_start, refit, allow_drift)
    context = _context(out, None)
    with context.store.locked(), console.showing_progress():
        outcome = retraining.already_settled(context, crawl, changes, options)
        if outcome is None:
            with embedded(), summary.drift_before_error(context.store):
                from nmcl.flows.engine.flows import nmcl_retrain

                outcome = nmcl_retrain(crawl, context.store.url, changes, options)
    summary.of_retraining(context.store, outcome)


@app.command(epilog=_epilog("nmcl promote nmcl-1b2c --out out", "nmcl promote latest --out out"))
def promote(
    run: Annotated[str, typer.Argument(help="A run, or the beginning of its name that no other has.")],
    out: Out = "out",
) -> None:
    """Make a run the champion by hand."""
    from nmcl.flows import console
    from nmcl.pipeline.storage import runs
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with store.locked():
        before, found = runs.champion(store), runs.find_run(store, run)
        runs.promote(found, "promote", "by hand")
    old, new = before.folder if before else "none", found.folder
    console.say(f"{new} is the champion already." if old == new else f"Champion: {new}, before it {old}.")


@app.command(epilog=_epilog("nmcl rollback --out out"))
def rollback(out: Out = "out") -> None:
    """Return to the champion before the present one. Nothing is deleted."""
    from nmcl.flows import console
    from nmcl.pipeline.storage import runs
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    with store.locked():
        entry = runs.rollback(store)
    console.say(f"Champion: {entry.run}, rolled back from {entry.before}.")


@app.command(epilog=_epilog("nmcl runs --out out", "nmcl runs --out out --json"))
def runs(out: Out = "out", json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List the runs of a store and the history of its champions."""
    from nmcl.flows.cli import summary
    from nmcl.pipeline.storage.store import Store

    summary.of_runs(Store.open(out), json)


@app.command(epilog=_epilog("nmcl predict new-crawl --model out --out venues.parquet"))
def predict(
    crawl: Crawl,
    model: Annotated[str, typer.Option("--model", help="The --out of a run, or one run in it.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="File to write; its name ends in .parquet or .csv.", show_default=False)
    ],
    config: Config = None,
    sets: Sets = None,
    path_col: PathColumn = None,
    text_col: TextColumn = None,
    label_col: LabelColumn = None,
    id_col: IdColumn = None,
    engine: Engine = None,
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Venues of every video of a crawl: one row each, failures included.

    `video_id, status, venue_1..venue_5, probability_1..probability_5, reason`. What is extracted is kept in the
    model's store, so that the same command again is quick. In a CSV file a text that begins like a formula (with `=`,
    `+`, `-`, `@`, a tab or a line break) or with an apostrophe has an apostrophe in front: taken away, it is as it was.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.flows.run.predict import check_name
    from nmcl.flows.service.server import embedded

    check_name(out)  # before hours of extraction, not after
    changes = _changes(config, sets, _columns(path_col, text_col, label_col, id_col), _engine(engine, workers, address))
    with console.showing_progress(), embedded():
        from nmcl.flows.engine.flows import predict_venues

        result = predict_venues(crawl, model, str(out), changes)
    summary.of_prediction(result, out)


@app.command(
    epilog=_epilog(
        "nmcl reproduce --features features.npz --out study",
        "nmcl reproduce --store out --out study --methods nmcl,logistic,mlp --seeds 3",
        "nmcl reproduce --features features.npz --out study --taxonomy foursquare.csv --tune",
        "nmcl reproduce --features features.npz --out ablation --methods nmcl,nmcl_paper --deviations",
    )
)
def reproduce(
    out: Annotated[Path, typer.Option("--out", help="Folder for results.json, tables, figures and report.html.")],
    features: Annotated[
        Path | None,
        typer.Option("--features", help=".npz: 2-D float arrays are modalities, `label`, and `split` if you have one."),
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="The --out of a run: its extracted features.")] = None,
    methods: Annotated[str, typer.Option("--methods", help="Names with commas between; all if not given.")] = "",
    modalities: Annotated[str, typer.Option("--modalities", help="Some of the file's, with commas between.")] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each method.")] = 5,
    taxonomy: Annotated[Path | None, typer.Option("--taxonomy", help="Venue tree for TRUMANN: CSV or JSON.")] = None,
    sounds: Annotated[
        Path | None, typer.Option("--sounds", help=".npz of external labelled sounds for DARE, else dare_lite.")
    ] = None,
    deviations: Annotated[
        bool,
        typer.Option("--deviations", help="Also nmcl with each departure from the paper undone: printed_gate, ..."),
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Search batch size, learning rate and dropout on validation rows first.")
    ] = False,
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Split anew for every seed, even where a split is given.")
    ] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Trainings at a time; one per core.")] = None,
    skip: Annotated[
        str, typer.Option("--skip", help="Sections to leave out: modalities, completion, absence; commas between.")
    ] = "",
) -> None:
    """Compare NMCL with its variants, the paper's baselines and strong simple methods, over several seeds.

    Tables 2 to 5 and Figures 4 to 7 of the paper, on any features, with tests of significance.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.flows.cli.study import Request
    from nmcl.flows.cli.study import reproduce as run_study

    request = Request(
        features=features,
        store=store,
        out=out,
        methods=_names(methods),
        modalities=_names(modalities),
        seeds=seeds,
        taxonomy=taxonomy,
        sounds=sounds,
        deviations=deviations,
        tune=tune,
        resplit=resplit,
        jobs=jobs,
        skip=_names(skip),
    )
    with console.showing_progress():
        data = run_study(request, console.progress, " ".join(["nmcl", *sys.argv[1:]]))
    summary.of_study(data, out)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@app.command(epilog=_epilog("nmcl sample sample-crawl"))
def sample(folder: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)]) -> None:
    """Render a small sample crawl, for trying things out. It is no evidence of accuracy."""
    from nmcl.flows import console
    from nmcl.pipeline.crawl.sample import make_sample

    with console.showing_progress():
        make_sample(folder, progress=console.progress)
    console.say(f"{folder} is a rendered sample: real video files, invented pictures, sounds and words.")


@app.command(
    epilog=_epilog(
        "nmcl up",
        "nmcl up --watch crawls --out out",
        "NMCL_DATABASE_URL=postgresql://user:password@host/prefect nmcl up",
    ),
)
def up(
    database_url: Annotated[
        str | None,
        typer.Option(
            "--database-url", envvar="NMCL_DATABASE_URL", help="Of PostgreSQL; SQLite without it.", show_default=False
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            "--watch",
            envvar="NMCL_WATCH",
            help="Each folder that lands in this one is a crawl, and starts `retrain`.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", envvar="NMCL_OUT", help="Store of these crawls; `out` if not given.")
    ] = None,
) -> None:
    """Start a Prefect server and a worker that stay, and register the deployments of prefect.yaml.

    Where they run already they are left running, and the deployments are registered anew. A worker that ended is
    started again beside its server. The log of each process before is kept, as server.log.1 and worker.log.1.
    """
    from nmcl.flows import console
    from nmcl.flows.cli import summary
    from nmcl.flows.service import service

    if watch and not watch.is_dir():
        raise CrawlError(f"There is no folder {watch} to watch. Make it, and let crawls land in it.")
    summary.of_service(service.up(database_url, watch, out, console.step), watch, out or Path("out"))


@app.command(epilog=_epilog("nmcl down"))
def down() -> None:
    """Stop what `nmcl up` started, runs in progress included: started again, they go on from what is finished."""
    from nmcl.flows import console
    from nmcl.flows.service import service

    console.say("Stopped." if service.down() else "Nothing runs that `nmcl up` started.")


@app.command(epilog=_epilog("nmcl announce new-crawl", "nmcl announce new-crawl --out out"))
def announce(crawl: Crawl, out: Out = "out") -> None:
    """Tell the Prefect server that a crawl has landed: the deployment `retrain` takes it up into the store."""
    from nmcl.flows import console
    from nmcl.flows.run.sources import require_videos
    from nmcl.flows.service import service
    from nmcl.pipeline.storage.store import Store

    require_videos(crawl)
    if not os.environ.get("PREFECT_API_URL"):
        running = service.running()
        if running is None:
            raise UserError("No Prefect server runs. Start one with `nmcl up`, or name yours in PREFECT_API_URL.")
        os.environ["PREFECT_API_URL"] = running.url
    from nmcl.flows.engine import events

    if not Store(out).exists("store.json"):
        console.note(f"There is no store {out} yet: `retrain` makes it, and trains its first model.")
    events.announce(crawl, out)
    console.say(f"Announced: {os.environ['PREFECT_API_URL'].removesuffix('/api')} shows the run of `retrain`.")


@app.command(
    epilog=_epilog("nmcl bench head", "nmcl bench extract --crawl my-videos", "nmcl bench all --json bench.json")
)
def bench(
    name: Annotated[str, typer.Argument(help="extract, complete, head, train, scale, or all.", show_default=False)],
    crawl: Annotated[
        Path | None, typer.Option("--crawl", help="Videos to extract from; the rendered sample if not given.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Sizes of the paper instead of smaller ones.")] = False,
) -> None:
    """Measure speed and memory against the least the hardware needs, and against plain ways of doing the same."""
    from nmcl.flows import console
    from nmcl.flows.bench.registry import Request, run_benches

    with console.showing_progress():
        run_benches(name, Request(crawl, full, console.progress), json)


def _changes(config: Path | None, sets: list[str] | None, *options: dict[str, Any]) -> dict[str, Any]:
    """Every setting that the command line names, nested; options of their own count most."""
    from nmcl.flows.settings import load_tree, merged

    return reduce(merged, options, load_tree(config, sets or ()))


def _columns(path: str | None, text: str | None, label: str | None, id: str | None) -> dict[str, Any]:
    return _section("columns", {"path": path, "text": text, "label": label, "id": id})


def _engine(name: str | None, workers: int | None, address: str | None) -> dict[str, Any]:
    return _section("engine", {"name": name, "workers": workers, "address": address})


def _section(name: str, options: dict[str, Any]) -> dict[str, Any]:
    given = {option: value for option, value in options.items() if value is not None}
    return {name: given} if given else {}


def _context(out: str, settings: Any) -> Any:
    from nmcl.flows import console
    from nmcl.flows.run.stages import Context
    from nmcl.pipeline.storage.store import Store

    return Context(Store.create(out), settings, console.progress, command=" ".join(["nmcl", *sys.argv[1:]]))


_signals: list[int] = []
"""That ended the command, besides Ctrl-C."""


def _end_orderly(number: int, _: object) -> None:
    """End as by Ctrl-C, which lets everyone clean up."""
    signal.signal(number, signal.SIG_IGN)
    _signals.append(number)
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the `nmcl` command: errors come as a sentence, without a trace."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup lets SIGHUP be ignored
            signal.signal(number, _end_orderly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names are in any script
    sweep()
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            sys.exit(_interrupted())
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, it comes as a sentence
        if _is_termination(error):
            _signals.append(signal.SIGTERM)
            sys.exit(_interrupted())
        if os.environ.get("NMCL_DEBUG"):
            traceback.print_exc()
        shown = _shown(error)
        if isinstance(shown, NmclError):
            _say(f"error: {shown}")
            sys.exit(shown.exit_code)
        found = f"{type(shown).__name__}: {str(shown)[:500]}"
        _say(f"error: {found}. This is a bug of nmcl: run with --debug for the trace.")
        sys.exit(1)


def _interrupted() -> int:
    """Say that the command was ended from outside. Returns its exit code."""
    name = f"Ended by {signal.Signals(_signals[0]).name}" if _signals else "Interrupted"
    _say(f"{name}. What was finished is kept; the same command goes on from there.")
    return 128 + _signals[0] if _signals else INTERRUPTED


def _is_termination(error: BaseException | None) -> bool:
    """Whether an error comes of SIGTERM: within a flow Prefect raises it anywhere, also where others wrap it."""
    while error is not None:
        if "TerminationSignal" in f"{type(error).__name__}: {error}":
            return True
        error = error.__cause__ or error.__context__
    return False


def _shown(error: Exception) -> Exception:
    """The error in a person's words, where the disk or the memory is at fault."""
    if isinstance(error, MemoryError):
        return UserError("There is not enough memory. What was finished is kept: end other programs, and run again.")
    if isinstance(error, OSError) and error.errno in DISK_FAULTS:
        return store_error(error, str(error.filename or "A file of this command"), "written")
    return error


def _say(text: str) -> None:
    print(visible(text, keep_lines=True), file=sys.stderr)
