"""Collects the data of a gallery: every video of a run or of a file of predictions, and a map of their vectors."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from nmcl.flows.report.gallery_data import Gallery, GalleryVideo
from nmcl.flows.run.predict import read_predictions
from nmcl.flows.run.run_page import (
    completed_of,
    flags_of,
    is_rendered,
    model_of,
    sets_of,
    shares_of,
    thumbnails_of,
    video_of,
)
from nmcl.pipeline.crawl.sample import SAMPLE_NOTE
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.storage.catalogue import Catalogue, load_catalogue
from nmcl.pipeline.storage.runs import PREDICTIONS, Run
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import read_table
from nmcl.pipeline.text import listed

MAP_VIDEOS = 10_000
"""Maximum number of videos on the map; of more, a sample. With as many, t-SNE takes about a minute."""
COMPONENTS = 50
"""Principal components that t-SNE is given, as its authors advise."""


def gallery_of(
    run: Run, predictions: Path | None = None, with_media: bool = True, progress: Progress = silent
) -> Gallery:
    """Return the data of a gallery.

    Args:
        run: The run that predicted.
        predictions: A file that `nmcl predict` wrote with this store; None for the videos of the run itself.
        with_media: Whether it has pictures, the names of files, and a player.
        progress: Progress callback.

    Raises:
        UserError: If the file of predictions is not one, or not of this store.
        StoreError: If the run is not finished, or its predictions are missing or damaged.
    """
    store, metrics = run.store, run.require_metrics()
    if predictions is None:
        table = read_table(store, run.file(PREDICTIONS))
        catalogue = run.catalogue if run.catalogue.crawls else load_catalogue(store)
        if [v.video_id for v in catalogue.videos(store)] != table.column("video_id").to_pylist():
            raise StoreError(f"{run.file(PREDICTIONS)} is not of the run's catalogue. Repeat the command of the run.")
    else:
        table = read_predictions(predictions)
        catalogue = _catalogue_of(store, table, predictions)
    videos, rows, sets = catalogue.videos(store), table.to_pylist(), sets_of(table)
    completed = completed_of(run, catalogue)
    observed = completed.observed if completed else {}
    shares = shares_of(model_of(run), completed, range(len(rows)))
    images = thumbnails_of(store, catalogue) if with_media else []
    places = embedding(completed, progress) if completed else [None] * len(rows)
    folders = {crawl.name: crawl.folder for crawl in catalogue.crawls}
    found = []
    for i, (row, video) in enumerate(zip(rows, videos, strict=True)):
        shown = video_of(row, video, sets, flags_of(observed, i), with_media)
        shown = replace(shown, shares=shares[i])
        if images:
            shown = replace(shown, images=images[i].files, spectrogram=images[i].spectrogram)
        address = _address(folders[video.crawl], video.path) if with_media else None
        found.append(GalleryVideo(shown, row.get("split"), address, places[i]))
    notes = [SAMPLE_NOTE] if is_rendered(catalogue) else []
    if with_media and not any(video.shown.images for video in found):
        notes.append(
            "There are no pictures: this store keeps no thumbnails of these videos. "
            "`nmcl extract --set thumbnails.backfill=true` adds those of ingested crawls."
        )
    if completed is None:
        notes.append("There is no map: the vectors of the run are no longer in the store.")
    return Gallery(
        title=f"Videos of {listed(crawl.name for crawl in catalogue.crawls)}",
        source=str(predictions.name if predictions else f"run {run.folder.removeprefix('runs/')}"),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        classes=metrics.classes,
        videos=found,
        notes=tuple(notes),
    )


def _catalogue_of(store: Store, table: pa.Table, file: Path) -> Catalogue:
    """Return the predicted crawl whose videos are the rows of a file."""
    ids = [str(name) for name in table.column("video_id").to_pylist()]
    for name in store.list("predicted"):
        catalogue = load_catalogue(store, f"predicted/{name}")
        if catalogue.n_videos == len(ids) and [video.video_id for video in catalogue.videos(store)] == ids:
            return catalogue
    raise UserError(
        f"The {len(ids):,} rows of {file} are no crawl that {store.url} has predicted. Name the store with --out, or "
        "predict the crawl again."
    )


def _address(folder: str, path: str) -> str | None:
    """Return the URL of a file of a crawl on a disk of this machine."""
    return None if "://" in folder else Path(folder, path).absolute().as_uri()


def embedding(rows: FeatureRows, progress: Progress = silent) -> list[tuple[float, float] | None]:
    """Return a point for each row by t-SNE of all its standardised vectors, in 0..1; None where nothing is known."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    places: list[tuple[float, float] | None] = [None] * len(rows)
    chosen = np.flatnonzero(rows.usable)
    if len(chosen) > MAP_VIDEOS:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, MAP_VIDEOS, replace=False))
    if len(chosen) < 5:
        return places
    progress("map", 0, len(chosen))
    blocks = []
    for array in rows.modalities.values():
        block = array[chosen] - array[chosen].mean(axis=0)
        blocks.append(block / max(1e-12, float(np.sqrt((block**2).sum(axis=1).mean()))))  # one weight for each set
    joined = np.concatenate(blocks, axis=1)
    n_components = min(COMPONENTS, len(chosen) - 1, joined.shape[1])
    reduced = PCA(n_components, svd_solver="randomized", random_state=0).fit_transform(joined)
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(reduced)
    points = (points - points.min(axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-12)
    for row, (x, y) in zip(chosen, points.tolist(), strict=True):
        places[row] = x, y
    progress("map", len(chosen), len(chosen))
    return places
