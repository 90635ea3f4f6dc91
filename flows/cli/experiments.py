"""Commands that compare methods, measure speed and render a sample."""

from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command, command_line
from nmcl.flows.cli.options import Json, StudyOptions
from nmcl.pipeline.errors import UserError


@command(
    "nmcl reproduce --features features.npz --out study",
    "nmcl reproduce --store out --out study --methods nmcl,logistic,mlp --seeds 3",
    "nmcl reproduce --features features.npz --out study --taxonomy foursquare.csv --tune",
    "nmcl reproduce --features features.npz --out ablation --methods nmcl,nmcl_paper --deviations",
)
def reproduce(options: StudyOptions) -> None:
    """Compare NMCL with its variants, the paper's baselines and strong simple methods, over several seeds.

    Writes tables 2 to 5 and figures 4 to 7 of the paper for any features, with significance tests.
    """
    from nmcl.flows.cli import summary
    from nmcl.flows.cli.study import reproduce as run_study

    with console.showing_progress():
        data = run_study(options, console.progress, command_line())
    summary.of_study(data, options.out)


@command(
    "nmcl compare study study-with-words",
    "nmcl compare nmcl_stacked-1b2c logistic --out out",
    "nmcl compare champion latest --out out --json",
)
def compare(
    first: Annotated[str, typer.Argument(help="Run, or folder of a study of `nmcl reproduce`.", show_default=False)],
    second: Annotated[str, typer.Argument(help="Another one.", show_default=False)],
    out: Annotated[
        str | None,
        typer.Option("--out", help="Store of the runs. Without it, two studies are compared.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Test whether one run of a store, or one study of `nmcl reproduce`, is better than another.

    **Runs** (with `--out`; a name, a unique prefix, `champion` or `latest`) are compared on the test videos of both:
    scores, McNemar's exact test, a bootstrap interval of the gain in macro-F1, the videos that only one gets right, and
    the differences of settings and feature sets.

    **Studies** need the same rows, seeds and splits. The interval of the gain in macro-F1 is a bootstrap over the test
    rows. `p rows` is of a paired t-test on each test row's share of right predictions, `p splits` of one on the
    macro-F1 of each split, corrected for the rows that the splits share. Scores are means over the seeds.
    """
    if out is None:
        _compare_studies(Path(first), Path(second), json)
        return
    from nmcl.flows.cli import explored
    from nmcl.flows.run.compare import compare_runs
    from nmcl.pipeline.storage.runs import named_run
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    explored.of_comparison(compare_runs(named_run(store, first), named_run(store, second)), json)


def _compare_studies(first: Path, second: Path, json: bool) -> None:
    from nmcl.flows.cli import summary
    from nmcl.model.study.paired import PairedRow, compare_studies

    for folder in (first, second):
        if not folder.is_dir():
            raise UserError(
                f"There is no folder {folder}. Name the folders of two studies of `nmcl reproduce`; to compare two "
                "runs of a store, add --out STORE."
            )
    rows = compare_studies(first, second)
    if json:
        summary.of_rows(rows, PairedRow, "json", "")
    else:
        summary.of_pairs(rows, first, second)


@command("nmcl bench head", "nmcl bench extract --crawl my-videos", "nmcl bench all --json bench.json")
def bench(
    name: Annotated[
        str,
        typer.Argument(help="One of extract, decode, complete, head, train, predict, scale, all.", show_default=False),
    ],
    crawl: Annotated[
        Path | None, typer.Option("--crawl", help="Crawl to extract from. Default: the rendered sample.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the results to this JSON file.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Use the paper's sizes instead of smaller ones.")] = False,
) -> None:
    """Measure speed and memory, compared with a lower bound and with straightforward implementations."""
    from nmcl.flows.bench.registry import Request, run_benches

    with console.showing_progress():
        run_benches(name, Request(crawl, full, console.progress), json)


@command("nmcl sample sample-crawl")
def sample(folder: Annotated[Path, typer.Argument(help="Folder to create.", show_default=False)]) -> None:
    """Render a small synthetic crawl for trying things out. Scores on it are no evidence of accuracy."""
    from nmcl.pipeline.crawl.sample import make_sample

    with console.showing_progress():
        make_sample(folder, progress=console.progress)
    console.say(f"{folder} contains a rendered sample: playable video files with synthetic pictures, sound and text.")
