"""Everything that a store knows about one video: its file, outcomes, vectors with their recipes, predictions."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from nmcl.flows.run.similar import FUSED, Neighbour, Space, nearest, vectors_of
from nmcl.flows.run.stored import StoredSets, StoredVideo
from nmcl.pipeline.errors import ClipError, StoreError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.media.probe import Header, probe
from nmcl.pipeline.records import MODALITIES, Modality, Split
from nmcl.pipeline.stages.thumbnails import folder_of_thumbnails, load_thumbnails
from nmcl.pipeline.storage.artifacts import SETTINGS_IN_FULL, Artifact, modality_of, read_recipe
from nmcl.pipeline.storage.catalogue import Catalogue
from nmcl.pipeline.storage.failures import Failure, load_failures
from nmcl.pipeline.storage.lineage import decoding_of
from nmcl.pipeline.storage.runs import PREDICTIONS
from nmcl.pipeline.storage.store import is_url
from nmcl.pipeline.storage.tables import read_table

N_NEAREST = 5
TOP = 5
Origin = Literal["observed", "completed", "missing", "not extracted"]


@dataclass(frozen=True)
class Vote:
    """A predicted label."""

    label: str
    probability: float


@dataclass(frozen=True)
class Outcome:
    """What happened to one modality of a video."""

    modality: Modality
    outcome: str
    """`ok`, `absent` (there is none, which is no failure), `not extracted`, or the kind of the failure."""
    remark: str | None
    attempts: int = 1


@dataclass(frozen=True)
class VectorStory:
    """How one feature set got its vector of a video."""

    feature_set: str
    modality: Modality
    length: int | None
    """None: not extracted."""
    origin: Origin
    """`observed`: made from the file or text; `completed` from other feature sets; `missing`: no vector at all."""
    completed_by: str | None
    """Completer that filled it in."""
    completed_from: tuple[str, ...]
    """Feature sets that it was filled in from."""
    key_frames_s: tuple[float, ...]
    """Times of the key frames, in seconds from the beginning; empty for sound and text."""
    vote: Vote | None
    """Prediction of the run's model trained on this feature set alone; None where the vector is not observed."""
    artifact: str
    """Folder of the vectors in the store, which ends in their address."""
    recipe: Mapping[str, Any]
    """How they were made, with all settings in force."""
    state_recipe: Mapping[str, Any] | None
    """How the extractor was fitted; None if it is not fitted."""


@dataclass(frozen=True)
class Story:
    """Everything about one video."""

    video_id: str
    crawl: str
    file: str
    """Absolute path or URL, as of ingest."""
    file_state: str
    """`here`, `changed` (another size), `missing`, or `remote` (not read)."""
    sha256: str
    n_bytes: int
    description: str | None
    label: str | None
    split: Split | None
    duplicate_of: str | None
    catalogue: str
    part: str
    """Key of its part: the vectors are row `row` of `part-KEY.parquet`."""
    row: int
    header: Header | None
    """Of the file as it is now; None if it cannot be read."""
    header_problem: str | None
    decoding: Mapping[str, Any] | None
    """What decided its frames and waveforms: version of the code, and limits; None if nothing was decoded."""
    thumbnails_s: tuple[float, ...]
    """Times of its thumbnails, in seconds from the beginning; empty if none are kept."""
    outcomes: tuple[Outcome, ...]
    run: str | None
    status: str | None
    top: tuple[Vote, ...]
    """The most probable labels of the run, at most five."""
    vectors: tuple[VectorStory, ...]
    nearest: tuple[Neighbour, ...]
    """Nearest training videos by all feature sets together."""
    notes: tuple[str, ...]


def explain(sets: StoredSets, video: StoredVideo) -> Story:
    """Return everything that a store knows about a video, as a run sees it. Loads no network."""
    notes: list[str] = []
    row, near = video.video, _nearest(sets, video, notes)
    prediction = _prediction(sets, video, notes)
    vectors = tuple(_vectors(sets, video, prediction))
    header, problem, state = _header(sets, video)
    return Story(
        video_id=row.video_id,
        crawl=video.crawl.name,
        file=_file(video),
        file_state=state,
        sha256=row.sha256,
        n_bytes=row.n_bytes,
        description=row.description,
        label=row.venue,
        split=sets.split_of(row) if row.venue else None,
        duplicate_of=row.duplicate_of,
        catalogue=video.catalogue,
        part=video.part.key,
        row=video.row,
        header=header,
        header_problem=problem,
        decoding=_decoding(sets),
        thumbnails_s=_thumbnails(sets, video),
        outcomes=tuple(_outcomes(sets, video, vectors)),
        run=sets.run.folder if sets.run else None,
        status=prediction.get("status"),
        top=tuple(_votes(prediction)),
        vectors=vectors,
        nearest=tuple(near),
        notes=tuple(notes),
    )


def _file(video: StoredVideo) -> str:
    return f"{video.crawl.folder.rstrip('/')}/{video.video.path}"


def _header(sets: StoredSets, video: StoredVideo) -> tuple[Header | None, str | None, str]:
    """Return the header, why there is none, and the state of the file."""
    file = _file(video)
    if is_url(file):
        return None, "The file is in an object store, and is not fetched for this.", "remote"
    if not os.path.isfile(file):
        return None, "The file is no longer where it was ingested.", "missing"
    found = probe(Path(file), _media_settings(sets))
    state = "here" if os.path.getsize(file) == video.video.n_bytes else "changed"
    return (None, str(found), state) if isinstance(found, ClipError) else (found, None, state)


def _media_settings(sets: StoredSets) -> MediaSettings:
    """Return the limits that the videos were decoded with."""
    known = {field.name for field in fields(MediaSettings)}
    for artifact in sets.features.values():
        if decoding := artifact.recipe.get("decoding"):
            own = {**decoding, **artifact.settings.get("media", {})}
            return MediaSettings(**{name: value for name, value in own.items() if name in known})
    return MediaSettings()


def _decoding(sets: StoredSets) -> dict[str, Any] | None:
    recipe = decoding_of(sets.features)
    if recipe is None:
        return None
    limits = _media_settings(sets)
    return {**recipe, **{name: getattr(limits, name) for name in ("max_seconds", "max_pixels", "budget_megapixels")}}


def _thumbnails(sets: StoredSets, video: StoredVideo) -> tuple[float, ...]:
    folder = folder_of_thumbnails(sets.store, Catalogue((video.crawl,)))
    return load_thumbnails(sets.store, folder, video.part)[video.row].times_s if folder else ()


def _prediction(sets: StoredSets, video: StoredVideo, notes: list[str]) -> dict[str, Any]:
    """Return the row of the run's predictions for a video; empty if there is none."""
    run = sets.run
    if run is None:
        notes.append(f"{sets.store.url} has no run yet, so nothing is predicted: `nmcl run` trains one.")
        return {}
    if not run.is_finished:
        notes.append(f"{run.folder} is not finished, so it has no predictions.")
        return {}
    begin = 0
    for crawl, part in run.catalogue.parts():
        if (crawl.name, part.key) == (video.crawl.name, video.part.key):
            table = read_table(sets.store, run.file(PREDICTIONS))
            found: list[dict[str, Any]] = table.slice(begin + video.row, 1).to_pylist()
            if not found or found[0]["video_id"] != video.video.video_id:
                raise sets.store.damaged(run.file(PREDICTIONS), f"row {begin + video.row} is of another video")
            return found[0]
        begin += part.n_videos
    notes.append(
        f"{run.folder} was not trained on the crawl {video.crawl.name}, so it has no prediction for it here: "
        f"`nmcl predict {video.crawl.folder} --model {sets.store.url} --out venues.csv` makes one."
    )
    return {}


def _votes(prediction: Mapping[str, Any]) -> Iterator[Vote]:
    for rank in range(1, TOP + 1):
        if (label := prediction.get(f"venue_{rank}")) is not None:
            yield Vote(label, prediction[f"probability_{rank}"])


def _vectors(sets: StoredSets, video: StoredVideo, prediction: Mapping[str, Any]) -> Iterator[VectorStory]:
    rows = {name: _row(sets, artifact, video) for name, artifact in sets.features.items()}
    observed = tuple(name for name, row in rows.items() if row and row["vector"] is not None)
    completer = _completer(sets)
    filled = (_row(sets, sets.completed, video) if sets.completed else None) or {}
    for name, artifact in sets.features.items():
        row, vector = rows[name], filled.get(name)
        is_completed = name not in observed and vector is not None
        origin: Origin = "observed" if name in observed else "completed" if is_completed else "missing"
        known = (row["vector"] if row else None) or vector
        label = prediction.get(f"venue_by_{name}")
        state = sets.states.get(name)
        yield VectorStory(
            feature_set=name,
            modality=modality_of(sets.store, artifact.folder),
            length=len(known) if known is not None else None,
            origin="not extracted" if row is None else origin,
            completed_by=completer if is_completed else None,
            completed_from=observed if is_completed and completer != "mean" else (),
            key_frames_s=tuple((row or {}).get("key_frames_s") or ()),
            vote=Vote(label, prediction[f"probability_by_{name}"]) if label is not None else None,
            artifact=artifact.folder,
            recipe=read_recipe(sets.store, artifact.folder),
            state_recipe=read_recipe(sets.store, state.folder) if state else None,
        )


def _row(sets: StoredSets, artifact: Artifact, video: StoredVideo) -> dict[str, Any] | None:
    """Return a video's row of a part; None if the part is not there."""
    name = artifact.part(video.part.key)
    if not sets.store.exists(name):
        return None
    table = read_table(sets.store, name, video.part.n_videos)
    row: dict[str, Any] = table.slice(video.row, 1).to_pylist()[0]
    return row


def _completer(sets: StoredSets) -> str | None:
    if sets.completion is None:
        return None
    method: str = sets.store.read_json(f"{sets.completion.folder}/state.json").get("method", "unknown")
    return method


def _outcomes(sets: StoredSets, video: StoredVideo, vectors: tuple[VectorStory, ...]) -> Iterator[Outcome]:
    failures = _failures(sets, video)
    for modality in MODALITIES:
        own = [vector for vector in vectors if vector.modality == modality]
        if not own:
            continue
        failure = next((f for f in failures if f.modality in (None, modality) and modality != "textual"), None)
        if failure:
            yield Outcome(modality, failure.kind, failure.detail, failure.attempts)
        elif any(vector.origin == "observed" for vector in own):
            yield Outcome(modality, "ok", None)
        elif all(vector.origin == "not extracted" for vector in own):
            yield Outcome(modality, "not extracted", None)
        else:
            yield Outcome(modality, "absent", _remark(sets, video, modality, own))


def _remark(sets: StoredSets, video: StoredVideo, modality: Modality, own: list[VectorStory]) -> str | None:
    if modality == "textual":
        known = video.video.description
        return "No word of its text is known to the extractor." if known else "There is no description."
    rows = (_row(sets, sets.features[vector.feature_set], video) for vector in own)
    return next((row["remark"] for row in rows if row and row.get("remark")), None)


def _failures(sets: StoredSets, video: StoredVideo) -> tuple[Failure, ...]:
    artifact = sets.failures
    if artifact is None or not sets.store.exists(artifact.part(video.part.key)):
        return ()
    return load_failures(sets.store, artifact, video.part).get(video.video.video_id, ())


def _nearest(sets: StoredSets, video: StoredVideo, notes: list[str]) -> list[Neighbour]:
    if not sets.splits:
        notes.append("No nearest training videos: no run has recorded which videos it was trained on.")
        return []
    try:
        space = Space(sets, FUSED)
        query = vectors_of(space, video)
    except StoreError as error:
        notes.append(f"No nearest training videos: {error}")
        return []
    return nearest(space, query, N_NEAREST, video.video, only=lambda other: sets.split_of(other) == "train")


def settings_of(vector: VectorStory) -> dict[str, Any]:
    """Return the settings of the extractor of a feature set, as stored with it; `extractor` is its name, if known."""
    found = vector.recipe.get(SETTINGS_IN_FULL, {}).get("features", {}).get(vector.feature_set)
    if found:
        return dict(found)
    extractor = vector.recipe.get("extractor", {})  # of an earlier version
    settings = extractor.get("settings", extractor)
    named = settings.get("backbone", extractor.get("name"))
    code = ("code", "code_version", "autoencoder_version", "autoencoder")
    own = {name: value for name, value in settings.items() if name not in code}
    return {**({"extractor": named} if named else {}), **own}
