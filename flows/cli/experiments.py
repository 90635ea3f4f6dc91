"""Commands that compare methods, measure speed and render a sample."""

from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows.cli.app import command, command_line


@command(
    "nmcl reproduce --features features.npz --out study",
    "nmcl reproduce --store out --out study --methods nmcl,logistic,mlp --seeds 3",
    "nmcl reproduce --features features.npz --out study --taxonomy foursquare.csv --tune",
    "nmcl reproduce --features features.npz --out ablation --methods nmcl,nmcl_paper --deviations",
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
        bool, typer.Option("--resplit", help="Draw a new split for every seed, even if one is given.")
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
        data = run_study(request, console.progress, command_line())
    summary.of_study(data, out)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


@command("nmcl bench head", "nmcl bench extract --crawl my-videos", "nmcl bench all --json bench.json")
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


@command("nmcl sample sample-crawl")
def sample(folder: Annotated[Path, typer.Argument(help="Folder to make.", show_default=False)]) -> None:
    """Render a small sample crawl, for trying things out. It is no evidence of accuracy."""
    from nmcl.flows import console
    from nmcl.pipeline.crawl.sample import make_sample

    with console.showing_progress():
        make_sample(folder, progress=console.progress)
    console.say(f"{folder} is a rendered sample: real video files, invented pictures, sounds and words.")
