"""Predict: the venues of a crawl nobody labelled, by a run's frozen extractors, completer and model."""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from flows.lineage import FrozenStates, frozen_of
from flows.plan import Extractors, completed_with
from flows.prediction import probabilities, table
from flows.settings import Settings, Tree, from_tree
from flows.stages import Context, Each, ingest
from model.checkpoint import load as load_model
from model.evaluate import evaluate
from model.trained import Trained
from pipeline.artifacts import Artifact, digest, load_state
from pipeline.catalogue import Catalogue, Crawl, Part, load_part
from pipeline.champions import champion
from pipeline.complete import complete_part, load_completed
from pipeline.errors import SettingsError, StoreError
from pipeline.extract import Feature, Job, extract_part, load_failures
from pipeline.media import Decoder
from pipeline.progress import Progress, within
from pipeline.records import MODALITIES, Modality, State, Video
from pipeline.store import Store

FREE = ("columns", "ingest", "media")
"""Sections of the settings that may differ from the run's: they say how to read the crawl, not what to make of it."""


@dataclass(frozen=True)
class Frozen:
    """A run, and all that its predictions depend on."""

    store: Store
    settings: Settings
    trained: Trained
    features: dict[Modality, Feature]
    failures: Artifact
    completion: State
    completed: Artifact

    @property
    def job(self) -> Job:
        """What to extract of a new crawl."""
        visual = Extractors(self.settings).visual
        return Job(tuple(self.features.values()), visual.frames, self.failures)


def find_run(model: Path) -> tuple[Store, str]:
    """The store and the run that a folder names: the champion of an OUT, or one run in it.

    Raises:
        StoreError: it is neither.
    """
    model = model.resolve()
    is_store = (model / "store.json").exists()
    root = model if is_store else model.parent.parent
    if not (root / "store.json").exists():
        raise StoreError(
            f"{model} is neither the --out of a run nor a run in it. Expected, for example, OUT or OUT/latest."
        )
    store = Store.open(root)
    run = champion(store) or "latest" if is_store else f"runs/{model.name}"
    if not store.exists(f"{run}/metrics.json"):
        raise StoreError(f"{root} holds no finished run. Train one: `nmcl run CRAWL --out {root}`.")
    return store, run


def load_run(model: Path, changes: Tree) -> Frozen:
    """Everything a prediction needs, by following the recipes from the run back to the extractors.

    Args:
        changes: settings of the sections in FREE.

    Raises:
        SettingsError: other settings are named.
        ModelError: this version of the code would extract other vectors than the model was trained on.
    """
    if refused := [section for section in changes if section not in FREE]:
        raise SettingsError(
            f"{refused[0]}.* cannot be set for a prediction: it comes from the model. Free are {', '.join(FREE)}."
        )
    store, run = find_run(model)
    tree = {k: v for k, v in store.read_json(f"{run}/settings.json").items() if k != "columns"}
    settings = from_tree({**tree, **{k: tree.get(k, {}) | v for k, v in changes.items()}})
    states, extractors = frozen_of(store, run), Extractors(settings)
    return Frozen(
        store=store,
        settings=settings,
        trained=load_model(store.local_path(run)),
        features={modality: _feature(store, extractors, states, modality) for modality in MODALITIES},
        failures=extractors.failures(),
        completion=load_state(store, states.completion),
        completed=completed_with(states.completion.address),
    )


def _feature(store: Store, extractors: Extractors, states: FrozenStates, modality: Modality) -> Feature:
    artifact = states.states.get(modality)
    extractor = extractors.all[modality]
    features = states.check(extractor, extractors.features(modality, artifact.address if artifact else None))
    return Feature(extractor, load_state(store, artifact) if artifact else State(), features)


def predict(crawl: Path, model: Path, out: Path, changes: Tree, progress: Progress, each: Each) -> dict[str, Any]:
    """Ingest, extract, complete and classify a crawl, part by part, and write one table of all its videos.

    What is extracted stays in the model's store, so that the same command again finds it.

    Returns:
        `videos`, `ok`, `failed`, `empty`; `venues`: how often each was the first guess; `scores`: where the crawl has
        labels the model knows, micro- and macro-F1 on them.
    """
    frozen = load_run(model, changes)
    store = frozen.store
    with store.locked():
        context = Context(store, frozen.settings, progress, each)
        crawl = crawl.resolve()
        name = f"predicted/{crawl.name}-{digest(str(crawl), 8)}.json"
        catalogue = ingest(context, crawl, name)
        tables, probability = _predict_parts(context, frozen, catalogue)
    predictions = pa.concat_tables(tables)
    write_table(predictions, out)
    videos = catalogue.videos(store)
    return _summary(predictions) | {"scores": _scores(frozen.trained, videos, probability)}


def _predict_parts(context: Context, frozen: Frozen, catalogue: Catalogue) -> tuple[list[pa.Table], np.ndarray]:
    parts, job = list(catalogue.parts()), frozen.job
    total = catalogue.n_videos
    starts = np.cumsum([0, *(part.n_videos for _, part in parts)]).tolist()
    with Decoder(frozen.settings.media) as decoder:

        def work(i: int) -> tuple[pa.Table, np.ndarray]:
            crawl, part = parts[i]
            of_part = within(context.progress, "predict", starts[i], total)
            extract_part(frozen.store, crawl, part, job, decoder, of_part)
            result = _predict_part(frozen, crawl, part)
            of_part("predict", part.n_videos, total)
            return result

        results = context.each("predict", work, range(len(parts)))
    return [rows for rows, _ in results], np.concatenate([probability for _, probability in results])


def _predict_part(frozen: Frozen, crawl: Crawl, part: Part) -> tuple[pa.Table, np.ndarray]:
    store = frozen.store
    features = {modality: feature.artifact for modality, feature in frozen.features.items()}
    complete_part(store, part, features, frozen.completion, frozen.completed)
    alone = Catalogue((replace(crawl, parts=(part,)),))
    probability = probabilities(frozen.trained, load_completed(store, alone, frozen.completed, MODALITIES))
    videos, failures = load_part(store, part), load_failures(store, frozen.failures, part)
    return table(videos, [failures.get(v.video_id) for v in videos], probability, frozen.trained.venues), probability


def write_table(predictions: pa.Table, out: Path) -> None:
    """Write a table whole or not at all, as CSV where the name ends so, else as Parquet."""
    writers = {".csv": pyarrow.csv.write_csv}
    write = writers.get(out.suffix.lower(), pyarrow.parquet.write_table)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}-")
        os.close(handle)
        write(predictions, temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}.") from error


def _summary(predictions: pa.Table) -> dict[str, Any]:
    status = Counter(predictions.column("status").to_pylist())
    venues = Counter(venue for venue in predictions.column("venue_1").to_pylist() if venue)
    counts = {name: status[name] for name in ("ok", "failed", "empty")}
    return {"videos": len(predictions), **counts, "venues": dict(venues.most_common())}


def _scores(trained: Trained, videos: Sequence[Video], probability: np.ndarray) -> dict[str, Any] | None:
    index = {venue: k for k, venue in enumerate(trained.venues)}
    labels = np.array([index.get(video.venue or "", -1) for video in videos])
    rows = (labels >= 0) & ~np.isnan(probability).any(axis=1)
    if not rows.any():
        return None
    scores = evaluate(probability[rows], labels[rows], trained.venues)
    return {name: scores[name] for name in ("n_rows", "micro_f1", "macro_f1")}
