"""Commands that look into single videos of a store."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from nmcl.flows import console
from nmcl.flows.cli.app import command
from nmcl.flows.cli.options import Json, KnownStore
from nmcl.pipeline.errors import UserError

if TYPE_CHECKING:
    from nmcl.flows.run.similar import Space, Vectors

SomeRun = Annotated[
    str | None, typer.Option("--run", help="Run, or a unique prefix of it. Default: the champion, else the latest.")
]


@command("nmcl explain v0042 --out out", "nmcl explain monday/v0042 --out out --run latest --json")
def explain(
    video: Annotated[
        str,
        typer.Argument(
            help="Id, CRAWL/ID, path or hash of a video, a unique beginning of an id or hash, or its file.",
            show_default=False,
        ),
    ],
    out: KnownStore = "out",
    run: SomeRun = None,
    json: Json = False,
) -> None:
    """Show everything that is known about one video.

    Its file and what the file's header says, which limits cut it, what happened to each modality, which feature sets
    were observed or completed and by what, key frames, the prediction of the run and that of each feature set alone,
    the nearest training videos, and how every vector was made. The file is only read if it is on this machine.
    """
    from nmcl.flows.cli import explored
    from nmcl.flows.run.explain import explain as explain_video
    from nmcl.flows.run.stored import find_video, stored_sets
    from nmcl.pipeline.storage.store import Store

    store = Store.open(out)
    found = find_video(store, video)
    explored.of_story(explain_video(stored_sets(store, run), found), json)


@command(
    "nmcl similar v0042 --out out",
    "nmcl similar v0042 --out out --features visual -n 20 --json",
    "nmcl similar holiday.mp4 --out out",
    "nmcl similar --duplicates --out out",
)
def similar(
    video: Annotated[
        str | None,
        typer.Argument(help="Video as for `nmcl explain`, or a media file of this machine.", show_default=False),
    ] = None,
    out: KnownStore = "out",
    features: Annotated[
        str,
        typer.Option("--features", metavar="NAME", help="Feature set, or `fused`: all of them, completed if missing."),
    ] = "fused",
    n: Annotated[int, typer.Option("-n", min=1, help="Number of videos.")] = 10,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List pairs of near-duplicates in the store instead.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", min=0, max=2, help="With --duplicates: the largest distance. Default: 0.2."),
    ] = None,
    run: SomeRun = None,
    json: Json = False,
) -> None:
    """List the videos of a store that are nearest to one, or its near-duplicates.

    The distance is one minus the cosine of standardised vectors: 0 is the same, 1 is unrelated, 2 is opposite. With
    `fused` it is the mean over all feature sets. The search is exact and reads the store part by part. A file that is
    not in the store is extracted first, with the run's own extractors; nothing is written.

    `--duplicates` finds what file hashes miss, such as re-encodes: pairs with other bytes that are close in every
    feature set of pictures and sound that both have. Pairs across splits come first, as they leak from one split into
    another.
    """
    from nmcl.flows.cli import explored
    from nmcl.flows.run.duplicates import THRESHOLD, near_duplicates
    from nmcl.flows.run.similar import Space, nearest, vectors_of
    from nmcl.flows.run.stored import find_video, stored_sets
    from nmcl.pipeline.storage.store import Store

    if duplicates == (video is not None):
        raise UserError("Name one video, or use --duplicates without a video.")
    if threshold is not None and not duplicates:
        raise UserError("--threshold belongs to --duplicates. Use -n for the number of nearest videos.")
    store = Store.open(out)
    sets = stored_sets(store, run)
    if video is None:
        limit = THRESHOLD if threshold is None else threshold
        with console.showing_progress():
            pairs = near_duplicates(sets, limit, console.progress)
        explored.of_duplicates(sets, pairs, limit, json)
        return
    space = Space(sets, features)
    try:
        found = find_video(store, video)
    except UserError:
        if not os.path.isfile(video):
            raise
        with console.showing_progress():
            near = nearest(space, _extracted(space, video), n)
    else:
        near = nearest(space, vectors_of(space, found), n, found.video)
        video = found.name
    explored.of_neighbours(sets, video, features, near, json)


def _extracted(space: "Space", file: str) -> "Vectors":
    """Return the vectors of a file that is not in the store. Loads the run's extractors."""
    from nmcl.flows.run.predict import load_run, vectors_of_file

    sets = space.sets
    if sets.run is None or not sets.run.is_finished:
        raise UserError(
            f"{file} is not in {sets.store.url}, and it has no finished run whose extractors could read it. Train one "
            "with `nmcl run`, or ingest and extract the file's folder."
        )
    found = vectors_of_file(file, load_run(f"{sets.store.url}/{sets.run.folder}", {}), console.progress)
    if space.names == [space.name] and not found.observed[space.name].all():
        raise UserError(f"{file} has no {space.name} vector. Use another --features, such as fused.")
    return {name: found.modalities[name] for name in space.names}
