"""Prediction of the venues of an unlabelled crawl, with a run's frozen extractors, completer and model."""

import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from nmcl.flows.run import texts
from nmcl.flows.run.evaluation import stored_model
from nmcl.flows.run.extractors import Extractors
from nmcl.flows.run.files import listed_in_store
from nmcl.flows.run.lineage import frozen_of
from nmcl.flows.run.parts import CompletePart, ExtractPart, MapItems, loaded_here, run_sequentially, work_items
from nmcl.flows.run.prediction import STATUSES, probabilities, table
from nmcl.flows.run.stages import Context, ingest
from nmcl.flows.settings import Settings, from_tree, is_of_machine
from nmcl.flows.settings_tree import Tree, agrees, merged
from nmcl.flows.stored_settings import checked, in_current_form, usable
from nmcl.model.evaluate import evaluate
from nmcl.model.trained import Trained
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.errors import CrawlError, SettingsError, StoreError, UserError
from nmcl.pipeline.escape import csv_text
from nmcl.pipeline.features import FeatureRows, class_indices
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Split, Video
from nmcl.pipeline.stages.complete import load_completed
from nmcl.pipeline.stages.ingest import predicted_catalogue
from nmcl.pipeline.storage.artifacts import Artifact, load_state, save_state
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, Part, load_catalogue, load_part, make_part, save_catalogue
from nmcl.pipeline.storage.failures import load_failures
from nmcl.pipeline.storage.files import write_whole
from nmcl.pipeline.storage.lineage import completed_with
from nmcl.pipeline.storage.runs import SETTINGS, Run, champion
from nmcl.pipeline.storage.store import POINTERS, Store

FREE = ("columns", "ingest", "media", "thumbnails", "engine", "predictions")
"""Sections of the settings that may differ from the run's: they decide how the work is done, not what is predicted."""


def _write_csv(table: pa.Table, file: BinaryIO) -> None:
    """Write a table as CSV: numbers unchanged, texts escaped so that spreadsheets do not read them as formulas."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = [None if text is None else csv_text(text) for text in table.column(i).to_pylist()]
            table = table.set_column(i, field, pa.array(texts, field.type))
    pyarrow.csv.write_csv(table, file)


def _read_csv(file: Path) -> pa.Table:
    """Return a table as `_write_csv` got it: names that look like numbers stay texts."""
    with pyarrow.csv.open_csv(file) as reader:
        names = reader.schema.names
    types = {name: pa.float32() if name.startswith("probability_") else pa.string() for name in names}
    convert = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
    table = pyarrow.csv.read_csv(
        file, convert_options=convert, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
    )
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = [None if text is None else text.removeprefix("'") for text in table.column(i).to_pylist()]
            table = table.set_column(i, field, pa.array(texts, field.type))
    return table


def read_predictions(file: Path) -> pa.Table:
    """Return the table of a file that `predict` wrote; raise UserError if it is none."""
    try:
        table = _read_csv(file) if file.suffix == ".csv" else pyarrow.parquet.read_table(file)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read ({error}). Name a file that `nmcl predict` wrote.") from error
    wanted = ("video_id", "status", "venue_1", "probability_1")
    if lacking := [name for name in wanted if name not in table.column_names]:
        raise UserError(f"{file} has no column {lacking[0]}. Name a file that `nmcl predict` wrote.")
    return table


_WRITERS: Mapping[str, Callable[[pa.Table, BinaryIO], None]] = {
    ".parquet": pyarrow.parquet.write_table,
    ".csv": _write_csv,
}
"""Writers by file suffix."""


@dataclass(frozen=True)
class Frozen:
    """A run with everything its predictions depend on."""

    store: Store
    settings: Settings
    trained: Trained
    extractors: Extractors
    states: Mapping[str, Artifact]
    features: Mapping[str, Artifact]
    failures: Artifact
    completion: Artifact
    completed: Artifact
    splits: Mapping[str, Split]
    """Split of the videos that the run was trained on, by content hash; empty for a run of an earlier version."""


def find_run(model: str | Path) -> Run:
    """Return the run that a folder or URL names: the champion of a store, or one run in it.

    Raises:
        StoreError: If it is neither, or the run is not finished.
    """
    run = _located(str(model))
    if not run.is_finished:
        raise StoreError(f"{run.store.url} has no finished run. Train one: `nmcl run CRAWL --out {run.store.url}`.")
    return run


def _located(model: str) -> Run:
    address = crawl_source(model).address  # links are followed: OUT/latest becomes the run it points to
    last = address.rsplit("/", 1)[-1]
    for n_up in (0, 1, 2):
        root = address.rsplit("/", n_up)[0]
        if (n_up == 1 and last not in POINTERS) or not Store(root).exists("store.json"):
            continue
        store = Store.open(root)
        if n_up == 0 and (best := champion(store)):
            return best
        return Run(store, (store.target("latest"), store.target(last), f"runs/{last}")[n_up] or "latest")
    raise StoreError(f"{model} is neither a store nor a run in a store. Expected, for example, OUT or OUT/latest.")


def settings_of_run(model: str, changes: Tree) -> tuple[Run, Settings]:
    """Find a run, and its settings with some changes.

    Args:
        model: See `find_run`.
        changes: Settings of the sections in FREE, or the device of a feature set. Others may be repeated.

    Returns:
        The run and the settings.

    Raises:
        SettingsError: If other settings are named.
        StoreError: If there is no such run.
    """
    changes = in_current_form(changes)
    run = find_run(model)
    tree = usable(run.store, run.file(SETTINGS), run.settings)
    others = {name: values for name, values in changes.items() if name not in FREE and not is_of_machine(name, values)}
    if refused := [name for name, values in others.items() if not agrees(tree, {name: values})]:
        raise SettingsError(
            f"{refused[0]}.* cannot be set for a prediction: it comes from the model. Only {', '.join(FREE)} and "
            "features.NAME.device can be set."
        )
    del tree["columns"]
    return run, checked(from_tree(merged(tree, changes)))


def load_run(model: str, changes: Tree) -> Frozen:
    """Load everything a prediction needs, by following the recipes from the run back to the extractors.

    Args:
        model: See `settings_of_run`.
        changes: See `settings_of_run`.

    Raises:
        ModelError: If this version of the code would extract other vectors than the model was trained on.
    """
    run, settings = settings_of_run(model, changes)
    states, extractors = frozen_of(run), Extractors(settings)
    addresses = {name: artifact.address for name, artifact in states.states.items()}
    made = {name: extractors.features(name, addresses.get(name)) for name in extractors.all}
    features = states.check_all(extractors.all, made)
    return Frozen(
        store=run.store,
        settings=settings,
        trained=stored_model(run),
        extractors=extractors,
        states=states.states,
        features=features,
        failures=states.failures or extractors.failures(),
        completion=states.completion,
        completed=completed_with(states.completion.address),
        splits=run.splits or {},
    )


@dataclass(frozen=True)
class Predicted:
    """Predictions of N videos of a crawl."""

    table: pa.Table
    """See `nmcl.flows.run.prediction.table`."""
    probability: np.ndarray
    """Shape (N, K), float32; NaN rows for videos without any modality."""
    catalogue: Catalogue


def predict(
    crawl: str, frozen: Frozen, out: Path, progress: Progress = silent, map_items: MapItems = run_sequentially
) -> dict[str, Any]:
    """Predict a crawl, and write one table of all its videos. See `predict_crawl`.

    Returns:
        `videos`, `ok`, `partial`, `failed`; `venues`: how often each was the first prediction; `scores`: micro- and
        macro-F1, if the crawl has labels that the model knows; `notes`: what was read and what was left out.
    """
    found = predict_crawl(crawl, frozen, progress, map_items)
    write_table(found.table, out)
    videos = found.catalogue.videos(frozen.store)
    notes = [note for crawl in found.catalogue.crawls for note in crawl.notes]
    return _summary(found.table) | {"scores": _scores(frozen.trained, videos, found.probability), "notes": notes}


def predict_crawl(
    crawl: str, frozen: Frozen, progress: Progress = silent, map_items: MapItems = run_sequentially
) -> Predicted:
    """Ingest, extract, complete and classify a crawl, part by part.

    Extracted vectors stay in the model's store, so that they are reused the next time.
    """
    store = frozen.store
    with store.locked(may_be_read_only=True):
        context = Context(store, frozen.settings, progress, map_items)
        return _predict_parts(context, frozen, ingest(context, crawl, predicted_catalogue(crawl)))


def predict_store(videos: Store, frozen: Frozen, progress: Progress = silent) -> pa.Table:
    """Predict the videos of a store, which may be another one than the model's. See `predict_crawl`.

    Their crawls must still be where they were ingested, unless the model's store has the vectors of their videos.

    Returns:
        See `nmcl.flows.run.prediction.table`.
    """
    catalogue, store = load_catalogue(videos), frozen.store
    if not catalogue.crawls:
        raise StoreError(f"{videos.url} has no crawl yet. Start with `nmcl ingest CRAWL --out {videos.url}`.")
    with store.locked(may_be_read_only=True):
        if videos.url != store.url:
            for _, part in catalogue.parts():
                make_part(store, load_part(videos, part))
            save_catalogue(store, catalogue, predicted_catalogue(videos.url))
        return _predict_parts(Context(store, frozen.settings, progress), frozen, catalogue).table


def predict_files(
    paths: Sequence[str | Path],
    descriptions: Sequence[str | None] | None,
    frozen: Frozen,
    progress: Progress = silent,
) -> pa.Table:
    """Predict some files of this machine, and write nothing into the model's store.

    Args:
        paths: Video files; the table has them as `video_id`.
        descriptions: Their descriptions, in the same order; None: without. They have no titles, tags or subtitles.

    Returns:
        See `nmcl.flows.run.prediction.table`.
    """
    with _copied(paths, descriptions, frozen) as (here, catalogue):
        return _predict_parts(Context(here.store, frozen.settings, progress), here, catalogue).table


def vectors_of_file(path: str | Path, frozen: Frozen, progress: Progress = silent) -> FeatureRows:
    """Return the vectors of a file of this machine, without a description: one row, completed where absent.

    Nothing is written into the model's store.

    Raises:
        CrawlError: If nothing of the file can be used.
    """
    with _copied([path], None, frozen) as (here, catalogue):
        _complete_parts(Context(here.store, frozen.settings, progress), here, catalogue)
        found = load_completed(here.store, catalogue, frozen.completed)
        if not found.usable.any():
            ((_, part),) = catalogue.parts()
            failures = load_failures(here.store, frozen.failures, part).get(str(path), ())
            reason = "; ".join(str(failure) for failure in failures) or "no feature set found anything in it"
            raise CrawlError(f"{path} cannot be used: {reason}. Give another file.")
        return found


@contextmanager
def _copied(
    paths: Sequence[str | Path], descriptions: Sequence[str | None] | None, frozen: Frozen
) -> Iterator[tuple[Frozen, Catalogue]]:
    """Provide the states of a run in a temporary store, whose catalogue lists some files of this machine."""
    with listed_in_store(paths, descriptions) as (store, catalogue):
        for artifact in (*frozen.states.values(), frozen.completion):
            save_state(store, artifact, load_state(frozen.store, artifact))
        texts.leave_out(store, frozen.extractors, catalogue)
        yield replace(frozen, store=store), catalogue


def _complete_parts(context: Context, frozen: Frozen, catalogue: Catalogue) -> None:
    """Extract and complete all parts."""
    store, items = frozen.store, work_items(catalogue)
    texts.read_missing(store, frozen.extractors, catalogue, context.progress)
    extract = ExtractPart(store, frozen.extractors, frozen.states, frozen.features, frozen.failures, context.retry)
    complete = CompletePart(store, frozen.features, frozen.completion, frozen.completed)
    if extract.lacking(items):
        frozen.extractors.fetch()
    with loaded_here():
        context.map_items("extract", extract, items, context.progress)
        context.map_items("complete", complete, items, context.progress)


def _predict_parts(context: Context, frozen: Frozen, catalogue: Catalogue) -> Predicted:
    _complete_parts(context, frozen, catalogue)
    results = [_predict_part(frozen, crawl, part) for crawl, part in catalogue.parts()]
    probability = np.concatenate([probability for _, probability in results])
    return Predicted(pa.concat_tables([rows for rows, _ in results]), probability, catalogue)


def _predict_part(frozen: Frozen, crawl: Crawl, part: Part) -> tuple[pa.Table, np.ndarray]:
    store = frozen.store
    alone = Catalogue((replace(crawl, parts=(part,)),))
    probability = probabilities(frozen.trained, load_completed(store, alone, frozen.completed))
    videos, failures = load_part(store, part), load_failures(store, frozen.failures, part)
    rows = table(
        videos,
        [failures.get(video.video_id, ()) for video in videos],
        [frozen.splits.get(video.sha256) for video in videos],
        probability,
        frozen.trained.classes,
        all_classes=frozen.settings.predictions.all_classes,
    )
    return rows, probability


def check_name(out: Path) -> None:
    """Raise SettingsError if the suffix of the output file names no format."""
    if out.suffix.lower() not in _WRITERS:
        raise SettingsError(f"--out {out}: expected a file whose name ends in {' or '.join(_WRITERS)}.")


def write_table(predictions: pa.Table, out: Path) -> None:
    """Write a table atomically, in the format of the file's suffix."""
    check_name(out)
    file = io.BytesIO()
    _WRITERS[out.suffix.lower()](predictions, file)
    write_whole(out, file.getvalue())


def _summary(predictions: pa.Table) -> dict[str, Any]:
    status = Counter(predictions.column("status").to_pylist())
    predicted = Counter(name for name in predictions.column("venue_1").to_pylist() if name)
    counts: dict[str, int] = {name: status[name] for name in STATUSES}
    return {"videos": len(predictions), **counts, "venues": dict(predicted.most_common())}


def _scores(trained: Trained, videos: Sequence[Video], probability: np.ndarray) -> dict[str, Any] | None:
    labels = class_indices([video.venue for video in videos], trained.classes)
    rows = (labels >= 0) & ~np.isnan(probability).any(axis=1)
    if not rows.any():
        return None
    scores = evaluate(probability[rows], labels[rows], trained.classes).scores
    return {"n_rows": scores.n_rows, "micro_f1": scores.micro_f1, "macro_f1": scores.macro_f1}
