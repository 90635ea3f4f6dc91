"""Commands that compare methods, measure speed and render a sample."""

from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command, command_line
from nmcl.flows.cli.options import Json, StudyOptions


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


@command("nmcl compare study study-with-words", "nmcl compare study study-with-words --json")
def compare(
    first: Annotated[Path, typer.Argument(help="Folder of a study of `nmcl reproduce`.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another study of the same rows.", show_default=False)],
    json: Json = False,
) -> None:
    """Test whether the methods of one study score better in another, such as one with other feature sets.

    Both need the same rows, seeds and splits. The interval of the gain in macro-F1 is a bootstrap over the test rows.
    `p rows` is of a paired t-test on each test row's share of right predictions, `p splits` of one on the macro-F1
    of each split, corrected for the rows that the splits share. Scores are means over the seeds.
    """
    from nmcl.flows.cli import summary
    from nmcl.model.study.paired import PairedRow, compare_studies

    rows = compare_studies(first, second)
    if json:
        summary.of_rows(rows, PairedRow, "json", "")
    else:
        summary.of_pairs(rows, first, second)


@command("nmcl bench head", "nmcl bench extract --crawl my-videos", "nmcl bench all --json bench.json")
def bench(
    name: Annotated[
        str, typer.Argument(help="One of extract, decode, complete, head, train, scale, all.", show_default=False)
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
