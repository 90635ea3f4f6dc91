"""Collects the data of a run's page from its store: predictions, thumbnails, and which vectors were filled in."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nmcl.flows.report.run_data import Difference, FailedVideo, RunPage, Shares, ShownVideo, Vote
from nmcl.model.evaluate import macro_f1
from nmcl.model.statistics import bootstrap, mcnemar_test
from nmcl.pipeline.crawl.sample import is_sample
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.records import Video
from nmcl.pipeline.stages.complete import load_completed
from nmcl.pipeline.stages.thumbnails import Images, folder_of_thumbnails, load_thumbnails
from nmcl.pipeline.storage.artifacts import RECIPE, recipe_file
from nmcl.pipeline.storage.catalogue import Catalogue, load_catalogue
from nmcl.pipeline.storage.lineage import stored_artifact
from nmcl.pipeline.storage.run_files import Metrics
from nmcl.pipeline.storage.runs import PREDICTIONS, Run, champion
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import read_table
from nmcl.pipeline.text import listed

if TYPE_CHECKING:
    from nmcl.model.trained import Trained  # imports torch

MAX_IMAGES = 200
"""Maximum number of key frames in one page, and of spectrograms."""
MAX_FAILURES = 200
"""Maximum number of videos that are listed because they could not be used."""
BY = "venue_by_"


def page_of(run: Run, with_media: bool = True, metrics: Metrics | None = None) -> RunPage:
    """Return the data of a run's page.

    Args:
        with_media: Whether it has thumbnails and the names of files.
        metrics: Those of a run that is not finished, as its metrics are not written yet.

    Raises:
        StoreError: If the run is not finished, or its predictions are missing or damaged.
    """
    metrics, store = metrics or run.require_metrics(), run.store
    if not store.exists(run.file(PREDICTIONS)):
        raise StoreError(
            f"{run.file(PREDICTIONS)} is missing. `nmcl run` with the settings of the run writes it again."
        )
    table = read_table(store, run.file(PREDICTIONS))
    catalogue = run.catalogue if run.catalogue.crawls else load_catalogue(store)
    videos = catalogue.videos(store)
    ids = table.column("video_id").to_pylist()
    if [video.video_id for video in videos] != ids:
        raise StoreError(
            f"{run.file(PREDICTIONS)} has {len(ids):,} rows that are not the {len(videos):,} videos of its catalogue. "
            "Repeat the command that started the run."
        )
    rows = table.to_pylist()
    splits = run.splits or {}
    split_of = [row.get("split") or splits.get(video.sha256) for row, video in zip(rows, videos, strict=True)]
    known_venues = [video.venue in metrics.classes for video in videos]
    tested = [i for i, split in enumerate(split_of) if split == "test" and known_venues[i]]
    validation = [
        {**rows[i], "venue": videos[i].venue}
        for i, split in enumerate(split_of)
        if split == "validation" and known_venues[i]
    ]
    sets = sets_of(table)
    completed = completed_of(run, catalogue)
    observed = completed.observed if completed else {}
    trained = model_of(run)
    shown = [
        replace(video_of(rows[i], videos[i], sets, flags_of(observed, i), with_media), shares=shares)
        for i, shares in zip(tested, shares_of(trained, completed, tested), strict=True)
    ]
    notes: list[str] = []
    if with_media:
        shown = _with_images(store, catalogue, tested, shown)
        if tested and not any(video.images for video in shown):
            notes.append(
                "There are no pictures: this store keeps no thumbnails. `nmcl extract --set thumbnails.backfill=true` "
                "adds them."
            )
    known = [video for video in shown if video.top]
    classes = {name: k for k, name in enumerate(metrics.classes)}
    label = np.array([classes[video.venue or ""] for video in known], int)
    predicted = np.array([classes[video.top[0][0]] for video in known], int)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (label, predicted), 1)
    made_with = run.made_with
    failed = [(row, video) for row, video in zip(rows, videos, strict=True) if row["status"] != "ok"]
    return RunPage(
        title=f"Venues of {listed(crawl.name for crawl in catalogue.crawls)}",
        run=run.folder.removeprefix("runs/"),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=metrics,
        videos=shown,
        accuracy_interval=bootstrap(_accuracy, label, predicted) if known else None,
        macro_interval=bootstrap(macro_f1, label, predicted) if known else None,
        alone={name: _score(shown, name) for name in sets},
        difference=_difference(known, validation, sets),
        confusion=confusion,
        made_with=made_with,
        has_media=with_media,
        notes=tuple(notes),
        history=trained.history if trained else (),
        failures=[
            FailedVideo(video.video_id, name_of(video) if with_media else None, row["status"], row["reason"])
            for row, video in failed[:MAX_FAILURES]
        ],
        champion=_champion(run),
        is_sample=bool(made_with.get("is_sample")) or is_rendered(catalogue),
    )


def is_rendered(catalogue: Catalogue) -> bool:
    """Return whether `nmcl sample` wrote a crawl, as far as the crawls are still there."""
    return any(is_sample(Path(crawl.folder)) for crawl in catalogue.crawls)


def _champion(run: Run) -> str:
    best = champion(run.store)
    if best is None:
        return "The first run, and so the champion"
    return "The champion" if best.folder == run.folder else f"Champion at the time: {best.folder}"


def model_of(run: Run) -> "Trained | None":
    """Return the model of a run; None if its files are gone."""
    if not run.is_trained:
        return None
    from nmcl.flows.run.evaluation import stored_model  # imports torch

    return stored_model(run)


def name_of(video: Video) -> str:
    """Return the path of a video as pages show it, with the name of its crawl."""
    return f"{video.crawl}/{video.path}"


def sets_of(table: pa.Table) -> list[str]:
    """Return the feature sets with predictions of their own; none in predictions of earlier versions."""
    return [name.removeprefix(BY) for name in table.column_names if name.startswith(BY)]


def _accuracy(label: np.ndarray, predicted: np.ndarray) -> float:
    return float((label == predicted).mean())


def video_of(
    row: Mapping[str, Any], video: Video, sets: Sequence[str], observed: Mapping[str, bool], with_media: bool
) -> ShownVideo:
    """Return a video as pages show it, without pictures and shares.

    Args:
        row: Its row of the predictions.
        observed: Which of its vectors were extracted, by feature set.
    """
    pairs = [(row[f"venue_{rank}"], row[f"probability_{rank}"]) for rank in range(1, 6)]
    return ShownVideo(
        video_id=video.video_id,
        path=name_of(video) if with_media else None,
        description=video.description,
        venue=video.venue,
        top=tuple((venue, probability) for venue, probability in pairs if venue is not None),
        status=row["status"],
        reason=row["reason"],
        votes={name: Vote(row[f"{BY}{name}"], row[f"probability_by_{name}"], observed.get(name)) for name in sets},
    )


def completed_of(run: Run, catalogue: Catalogue) -> FeatureRows | None:
    """Return the vectors that the model saw; None if the store no longer has them."""
    store = run.store
    address = run.recipe.get("completed") if store.exists(run.file(RECIPE)) else None
    folder = f"completed/all-{address}"
    if not address or not store.exists(recipe_file(store, folder)):
        return None
    artifact = stored_artifact(store, folder)
    is_whole = store.has_all(artifact.part(part.key) for _, part in catalogue.parts())
    return load_completed(store, catalogue, artifact) if is_whole else None


def shares_of(trained: "Trained | None", completed: FeatureRows | None, rows: Sequence[int]) -> list[dict[str, Shares]]:
    """Return `ShownVideo.shares` of some rows; empty ones for a model without relation scores."""
    found: list[dict[str, Shares]] = [{} for _ in rows]
    if trained is None or completed is None or not rows:
        return found
    from nmcl.model.study.explain import division  # imports torch

    usable = completed.usable[list(rows)]
    chosen = completed.take(np.array(rows)[usable])
    divided = division(trained, chosen.modalities, chosen.observed)
    for at, row in enumerate(np.flatnonzero(usable)):
        found[row] = {
            name: Shares(float(d.shares[at, 0]), float(d.shares[at, 1]), tuple(d.scores[at].tolist()))
            for name, d in divided.items()
        }
    return found


def flags_of(observed: Mapping[str, np.ndarray], row: int) -> dict[str, bool]:
    """Return which vectors of one video were extracted."""
    return {name: bool(flags[row]) for name, flags in observed.items()}


def _score(videos: Sequence[ShownVideo], name: str) -> tuple[int, int]:
    voted = [video for video in videos if video.votes[name].venue is not None]
    return sum(video.votes[name].venue == video.venue for video in voted), len(voted)


def _difference(
    videos: Sequence[ShownVideo], validation: Sequence[Mapping[str, Any]], sets: Sequence[str]
) -> Difference | None:
    """Compare the fused model with the set that is best on validation videos, so that test videos do not choose it."""
    if len(sets) < 2 or not validation:
        return None
    name = max(sets, key=lambda s: sum(row[f"{BY}{s}"] == row["venue"] for row in validation))
    both = [video for video in videos if video.votes[name].venue is not None]
    if not both:
        return None
    fused = np.array([video.is_right for video in both])
    alone = np.array([video.votes[name].venue == video.venue for video in both])
    wins, losses = int((fused & ~alone).sum()), int((alone & ~fused).sum())
    everything = np.ones(len(both), bool)
    interval = bootstrap(_accuracy, everything, fused, alone)
    p_value = mcnemar_test(fused, alone) if wins + losses else None
    return Difference(name, len(both), float(fused.mean()), float(alone.mean()), interval, wins, losses, p_value)


def _with_images(
    store: Store, catalogue: Catalogue, tested: Sequence[int], videos: Sequence[ShownVideo]
) -> list[ShownVideo]:
    """Return the videos with thumbnails, at most `MAX_IMAGES` key frames and as many spectrograms in all.

    The first of each comes before the others, and wrong predictions come before right ones.
    """
    stored = thumbnails_of(store, catalogue)
    found = [stored[i] if stored else Images() for i in tested]
    files = [images.files for images in found]
    order = sorted(range(len(videos)), key=lambda i: (videos[i].is_right, videos[i].confidence))
    kept = [0] * len(videos)
    left = MAX_IMAGES
    for rank in range(max(map(len, files), default=0)):
        for i in order:
            if left and len(files[i]) > rank:
                kept[i], left = rank + 1, left - 1
    heard = set(order[:MAX_IMAGES])
    return [
        replace(video, images=files[i][: kept[i]], spectrogram=found[i].spectrogram if i in heard else None)
        for i, video in enumerate(videos)
    ]


def thumbnails_of(store: Store, catalogue: Catalogue) -> list[Images]:
    """Return the thumbnails of all videos of a catalogue, of the settings that most were kept with; none without."""
    folder = folder_of_thumbnails(store, catalogue)
    return [image for _, part in catalogue.parts() for image in load_thumbnails(store, folder, part)] if folder else []
