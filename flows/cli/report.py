"""Commands that write pages for people."""

from pathlib import Path
from typing import Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import KnownStore

NoMedia = Annotated[
    bool, typer.Option("--no-media", help="Leave out pictures and the names of files, to share the page.")
]


@command(
    "nmcl report champion --out out",
    "nmcl report latest --out out --to report.html",
    "nmcl report nmcl_stacked-1b2c --out out --no-media",
)
def report(
    run: Annotated[
        str, typer.Argument(help="Name of a run, or a unique prefix of it; `latest` or `champion`.")
    ] = "champion",
    out: KnownStore = "out",
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write. Default: RUN.html in this folder.", show_default=False)
    ] = None,
    no_media: NoMedia = False,
) -> None:
    """Write the page of a run: one HTML file that works offline, with scores, charts and test videos.

    It answers whether fusing helps, shows what is confused with what, how far the confidence can be trusted, and the
    best, worst and most uncertain videos with their key frames (at most 200 pictures). It works in light and dark, on a
    phone and by keyboard, and loads nothing.
    """
    from nmcl.flows.report.run_page import render_run
    from nmcl.flows.run.run_page import page_of
    from nmcl.pipeline.storage.files import write_whole
    from nmcl.pipeline.storage.runs import named_run
    from nmcl.pipeline.storage.store import Store

    page = page_of(named_run(Store.open(out), run), with_media=not no_media)
    file = to or Path(f"{page.run}.html")
    write_whole(file, render_run(page).encode())
    console.say(f"{file}: {len(page.videos):,} test videos, {sum(len(v.images) for v in page.videos):,} pictures.")


@command(
    "nmcl gallery out",
    "nmcl gallery out --to gallery --run latest",
    "nmcl gallery venues.parquet --out out",
)
def gallery(
    source: Annotated[
        str, typer.Argument(help="Store, or a file that `nmcl predict` wrote with the store of --out.")
    ] = "out",
    out: KnownStore = "out",
    run: Annotated[str, typer.Option("--run", help="Run of the store that predicted; `latest` or `champion`.")] = (
        "champion"
    ),
    to: Annotated[Path, typer.Option("--to", help="Folder to write, or to replace.")] = Path("gallery"),
    no_media: NoMedia = False,
) -> None:
    """Write a page to browse all videos of a run, or of a file of predictions, with filters, a player and a map.

    `index.html` and its side folder work offline. The map is a t-SNE of all vectors; its points are videos. A video
    plays from its crawl, if that is on a disk of this machine.
    """
    from nmcl.flows.report.gallery_page import write_gallery
    from nmcl.flows.run.gallery import gallery_of
    from nmcl.pipeline.storage.runs import named_run
    from nmcl.pipeline.storage.store import Store

    is_file = source.endswith((".parquet", ".csv"))
    found = named_run(Store.open(out if is_file else source), run)
    with console.showing_progress():
        data = gallery_of(found, Path(source) if is_file else None, not no_media, console.progress)
        page = write_gallery(data, to, console.progress)
    console.say(f"{page}: {len(data.videos):,} videos.")
