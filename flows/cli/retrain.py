"""The command that retrains on a new crawl."""

from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command, context_of
from nmcl.flows.cli.options import KnownStore, RunOptions, names_in


@command(
    "nmcl retrain new-crawl --out out",
    "nmcl retrain new-crawl --out out --warm-start --set promotion.min_gain=0.005",
    "nmcl retrain new-crawl --out out --refit --allow-drift --set features.visual.extractor=resnet101",
)
def retrain(
    crawl: Annotated[
        str | None, typer.Argument(help="Folder or URL of new videos. Default: the crawls in the store.")
    ] = None,
    out: KnownStore = "out",
    warm_start: Annotated[bool, typer.Option("--warm-start", help="Start from the champion's weights.")] = False,
    refit: Annotated[
        bool, typer.Option("--refit", help="Refit the extractors on all crawls; existing ones are kept.")
    ] = False,
    allow_drift: Annotated[bool, typer.Option("--allow-drift", help="Continue if the crawl has drifted.")] = False,
    *,
    options: RunOptions,
) -> None:
    """Ingest a new crawl, train a challenger, and promote it only if it is better than the champion.

    The challenger uses the champion's extractors, completer and test videos. Drift above the limits of `[drift]` stops
    the command with exit code 4. The promotion rule is configured in `[promotion]`.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.retrain import retrain as retraining
    from nmcl.flows.retrain.context import Options
    from nmcl.flows.service.server import embedded

    changes = options.changes()
    how = Options(warm_start, refit, allow_drift, names_in(options.features))
    context = context_of(out, None)
    with context.store.locked(), console.showing_progress():
        outcome = retraining.already_settled(context, crawl, changes, how)
        if outcome is None:
            with embedded(), summary.drift_before_error(context.store):
                from nmcl.flows.engine.flows import nmcl_retrain

                outcome = nmcl_retrain(crawl, context.store.url, changes, how)
    summary.of_retraining(context.store, outcome)
