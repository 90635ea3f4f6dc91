"""Completion stage: fills in missing modalities of every video from its observed ones."""

import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from nmcl.pipeline import completion
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State
from nmcl.pipeline.stages.vectors import load_vectors
from nmcl.pipeline.storage.artifacts import Artifact, write_with_digest
from nmcl.pipeline.storage.catalogue import Catalogue, Part, load_part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import completed_names, encode, from_vectors, read_table, to_vectors

ONE_THREAD_VALUES = 2**24
"""Below this many values (7,000 videos) the matrix products are short: threads cost more by waiting than they save."""
_alone = threading.Lock()
"""Guards the number of BLAS threads, which is global to the process."""


def fit_completion(blocks: dict[str, np.ndarray], settings: CompletionSettings, progress: Progress = silent) -> State:
    """Select and fit a completer; `info["held_out"]` compares all of them, whichever was selected.

    Args:
        blocks: By modality, (N, D) float32, NaN rows where absent; rows without any modality are left out.
    """
    present = np.any([~np.isnan(block).any(axis=1) for block in blocks.values()], axis=0)
    rows = {name: block[present] for name, block in blocks.items()}
    n_values = sum(block.size for block in rows.values())
    with threadpool_limits(1 if n_values < ONE_THREAD_VALUES else None):
        state = completion.fit(rows, settings, progress)
        if settings.method == "auto":
            return state
        return replace(state, info=state.info | {"held_out": completion.compare(rows, settings, progress)})


def complete_part(store: Store, part: Part, features: Mapping[str, Artifact], state: State, into: Artifact) -> bool:
    """Fill in one part unless that was done; return whether there was anything to do."""
    name = into.part(part.key)
    if store.exists(name):
        return False
    blocks: dict[str, np.ndarray] = {m: load_vectors(store, artifact, part) for m, artifact in features.items()}
    columns: dict[str, pa.Array] = {"video_id": pa.array([v.video_id for v in load_part(store, part)], pa.string())}
    empty = completion.empty_rows(blocks)
    with _alone, threadpool_limits(1, user_api="blas"):  # products split among threads may round differently
        completed = completion.complete(blocks, state)
    for modality, vectors in completed.items():
        observed = ~np.isnan(blocks[modality]).any(axis=1)
        filled = np.where(empty[:, None], np.float32(np.nan), vectors)  # nothing is known about such a video
        columns[modality] = from_vectors(filled)
        columns[f"{modality}_observed"] = pa.array(observed)
    into.note_recipe(store)
    write_with_digest(store, name, encode(pa.table(columns)))
    return True


def load_features(store: Store, catalogue: Catalogue, artifact: Artifact, rows: np.ndarray | None = None) -> np.ndarray:
    """Return one modality's vectors of a catalogue's videos, in order: shape (N, D), float32, NaN rows where absent.

    Args:
        rows: Mask of the videos to load, shape (n_videos,), bool; None: all. The others are in memory for one part at a
            time.

    Returns:
        Without a video in the catalogue, D is 0.
    """
    if not catalogue.n_videos:
        return np.empty((0, 0), np.float32)
    chosen = np.ones(catalogue.n_videos, bool) if rows is None else rows
    starts = np.cumsum([part.n_videos for _, part in catalogue.parts()])[:-1]
    pairs = zip(catalogue.parts(), np.split(chosen, starts), strict=True)
    return np.concatenate([load_vectors(store, artifact, part)[wanted] for (_, part), wanted in pairs])


def load_completed(store: Store, catalogue: Catalogue, artifact: Artifact) -> FeatureRows:
    """Return the completed vectors of a catalogue's videos, in order; NaN only if a video has no modality at all.

    Raises:
        StoreError: If the catalogue has no video, or a part is missing or damaged.
    """
    if not catalogue.n_videos:
        raise StoreError(f"The catalogue of {store.url} has no video. Ingest a crawl: `nmcl ingest CRAWL --out OUT`.")
    tables = [read_table(store, artifact.part(part.key), part.n_videos) for _, part in catalogue.parts()]
    names = completed_names(tables[0])
    return FeatureRows(
        {m: np.concatenate([to_vectors(table.column(m)) for table in tables]) for m in names},
        {m: np.concatenate([table.column(f"{m}_observed").to_numpy() for table in tables]) for m in names},
    )
