"""Exports read from a store, one part at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.record import Export, FeatureSet, Missing
from nmcl.pipeline.libraries import merged, versions_in, versions_of_state
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Modality, Split, Steps, Video
from nmcl.pipeline.stages.vectors import load_sequences, load_vectors
from nmcl.pipeline.storage.artifacts import Artifact, dimensions_of, has_state, read_recipe, recipe_file, state_info
from nmcl.pipeline.storage.catalogue import Catalogue, Part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import SEQUENCE, read_table, to_vectors
from nmcl.pipeline.text import counted


@dataclass(frozen=True)
class Source:
    """One feature set of a store."""

    name: str
    modality: Modality
    vectors: Artifact
    completed: Artifact | None = None
    """Where absent vectors are filled in; None: nowhere."""
    made_from: tuple[Artifact, ...] = ()
    """States that decide the values."""


def export_of(
    store: Store,
    catalogue: Catalogue,
    videos: Sequence[Video],
    splits: Sequence[Split | None],
    sources: Sequence[Source],
    missing: Missing,
    sequences: bool = False,
    split_source: str = "none",
    notes: Sequence[str] = (),
    progress: Progress = silent,
) -> Export:
    """Return the export of all videos of a catalogue, after reading every part once for its masks.

    Args:
        videos: The rows of the catalogue.
        splits: The split of each video.
        sequences: Whether sequences are wanted where the store has them.
        split_source: Where the splits come from, in words.
        notes: What the user must know about these values.

    Raises:
        UserError: If there is no video.
        StoreError: If a part is missing or damaged.
    """
    parts = [part for _, part in catalogue.parts()]
    if not parts:
        raise UserError(f"{store.url} has no video to export. Ingest a crawl: `nmcl ingest CRAWL --out {store.url}`.")
    features = []
    for done, source in enumerate(sources, start=1):
        features.append(_feature(store, parts, source, missing, sequences))
        progress("read masks", done, len(sources))
    ids = unique_ids(videos)
    renamed = sum(new != video.video_id for new, video in zip(ids, videos, strict=True))
    known = [f"{counted(renamed, 'id')} used by several crawls: they are preceded by the crawl."] if renamed else []
    return Export(
        ids=ids,
        crawls=[video.crawl for video in videos],
        paths=[video.path for video in videos],
        sha256=[video.sha256 for video in videos],
        descriptions=[video.description for video in videos],
        labels=[video.venue for video in videos],
        splits=splits,
        features=features,
        missing=missing,
        split_source=split_source,
        notes=(*notes, *known, *_notes(features, sources, missing)),
        block_sizes=[part.n_videos for part in parts],
    )


def _feature(store: Store, parts: Sequence[Part], source: Source, missing: Missing, sequences: bool) -> FeatureSet:
    observed, lengths, has_sequences, dim = [], [], False, 0
    versions = []
    for part in parts:
        table = read_table(store, source.vectors.part(part.key), part.n_videos)
        versions.append(versions_in(table))
        vectors = table.column("vector")
        dim = vectors.type.list_size
        observed.append(~np.asarray(vectors.is_null()))
        if sequences and SEQUENCE in table.column_names:
            has_sequences = True
            lengths += [len(s) if s.is_valid else 1 for s in table.column(SEQUENCE)]
        else:  # nothing of this part could be extracted
            lengths += [1] * len(table)
    recipe = _recipe(store, source.vectors)
    states = [state_info(store, state) for state in _states(source, missing) if has_state(store, state)]
    return FeatureSet(
        name=source.name,
        modality=source.modality,
        dim=dim,
        observed=np.concatenate(observed),
        blocks=partial(_blocks, store, parts, source, missing),
        sequences=partial(_sequences, store, parts, source) if has_sequences else None,
        lengths=np.array(lengths, np.int64) if has_sequences else None,
        made_by={artifact.folder: _recipe(store, artifact) for artifact in _artifacts(source, missing)},
        made_with=merged(found for found in (*versions, *map(versions_of_state, states)) if found),
        parts_without_versions=versions.count(None),
        dimensions=dimensions_of(recipe),
    )


def _artifacts(source: Source, missing: Missing) -> Iterator[Artifact]:
    yield source.vectors
    yield from _states(source, missing)
    if source.completed is not None and missing == "completed":
        yield source.completed


def _states(source: Source, missing: Missing) -> list[Artifact]:
    """Return the states that decide the values: that of the completer only if vectors are completed."""
    return [a for a in source.made_from if missing == "completed" or not a.kind.endswith("/completion")]


def _recipe(store: Store, artifact: Artifact) -> Any:
    return read_recipe(store, artifact.folder) if store.exists(recipe_file(store, artifact.folder)) else artifact.recipe


def _numbered(parts: Sequence[Part], numbers: Iterable[int] | None) -> Iterable[Part]:
    return parts if numbers is None else (parts[number] for number in numbers)


def _blocks(
    store: Store, parts: Sequence[Part], source: Source, missing: Missing, numbers: Iterable[int] | None = None
) -> Iterator[np.ndarray]:
    for part in _numbered(parts, numbers):
        vectors = load_vectors(store, source.vectors, part)
        absent = np.isnan(vectors).any(axis=1)
        if missing == "completed" and source.completed is not None and absent.any():
            table = read_table(store, source.completed.part(part.key), part.n_videos)
            vectors[absent] = to_vectors(table.column(source.name))[absent]
        if missing != "nan":
            vectors[np.isnan(vectors).any(axis=1)] = 0.0
        yield vectors


def _sequences(
    store: Store, parts: Sequence[Part], source: Source, numbers: Iterable[int] | None = None
) -> Iterator[list[Steps | None]]:
    for part in _numbered(parts, numbers):
        yield load_sequences(store, source.vectors, part)


def unique_ids(videos: Sequence[Video]) -> list[str]:
    """Return the videos' ids; those that several crawls use are preceded by their crawl."""
    n_crawls = Counter(video.video_id for video in videos)
    taken = {video_id for video_id, n in n_crawls.items() if n == 1}
    ids = []
    for video in videos:
        unique = video.video_id if n_crawls[video.video_id] == 1 else f"{video.crawl}/{video.video_id}"
        while n_crawls[video.video_id] > 1 and unique in taken:
            unique = f"{video.crawl}/{unique}"
        taken.add(unique)
        ids.append(unique)
    return ids


def _notes(features: Sequence[FeatureSet], sources: Sequence[Source], missing: Missing) -> Iterator[str]:
    if missing == "completed" and (bare := [s.name for s in sources if s.completed is None]):
        yield f"No completed vectors of {', '.join(bare)}: zeros where they are missing."
    unknown = [f"{f.name} ({counted(f.parts_without_versions, 'part')})" for f in features if f.parts_without_versions]
    if unknown:
        yield (
            f"The versions of the libraries that made {', '.join(unknown)} are not known: an earlier version of nmcl "
            "extracted them."
        )
    n_empty = int((~np.any([feature.observed for feature in features], axis=0)).sum())
    if missing == "completed" and n_empty:
        yield f"{counted(n_empty, 'video')} without any of these feature sets: zeros if nothing could be completed."
