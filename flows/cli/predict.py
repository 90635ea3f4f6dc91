"""The command that predicts the venues of a crawl."""

from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import AllOptions, Crawl


@command("nmcl predict new-crawl --model out --out venues.parquet")
def predict(
    crawl: Crawl,
    model: Annotated[
        str, typer.Option("--model", help="Store (--out of a run), or one run in it.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Output file, .parquet or .csv.", show_default=False)],
    options: AllOptions,
) -> None:
    """Predict the venues of every video of a crawl. Writes one row per video, including failed ones.

    The columns are `video_id, status, venue, split, venue_1..venue_5, probability_1..probability_5, reason`. `--set
    predictions.all_classes=true` adds the probability of every venue. Extracted vectors stay in the model's store, so
    running the command again is fast. In CSV files, text that begins like a formula (with `=`, `+`, `-`, `@`, a tab or
    a line break) or with an apostrophe is prefixed with an apostrophe. Remove the prefix to get the original.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.run.predict import check_name, load_run, settings_of_run
    from nmcl.flows.run.predict import predict as predict_here
    from nmcl.flows.run.workers import local_map
    from nmcl.flows.service.server import embedded

    check_name(out)  # fail before hours of extraction
    changes = options.changes()
    _, settings = settings_of_run(model, changes)
    with console.showing_progress():
        if settings.engine.needs_prefect:
            with embedded():
                from nmcl.flows.engine.flows import predict_venues

                result = predict_venues(crawl, model, str(out), changes)
        else:
            with local_map(settings.engine) as map_items:
                result = predict_here(crawl, load_run(model, changes), out, console.progress, map_items)
    summary.of_prediction(result, out)
