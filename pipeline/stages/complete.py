"""Completion stage: fills in missing modalities of every video from its observed ones."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from nmcl.pipeline import completion
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.libraries import MADE_WITH, OF_COMPLETION, versions_here
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State
from nmcl.pipeline.stages.vectors import load_terms, load_vectors
from nmcl.pipeline.storage.artifacts import Artifact, write_with_digest
from nmcl.pipeline.storage.catalogue import Catalogue, Part, load_part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import (
    completed_names,
    encode,
    from_vectors,
    read_table,
    term_names,
    to_terms,
    to_vectors,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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
        info = {MADE_WITH: versions_here(OF_COMPLETION)} | state.info
        if settings.method != "auto":
            info["held_out"] = completion.compare(rows, settings, progress)
    return replace(state, info=info)


def complete_part(store: Store, part: Part, features: Mapping[str, Artifact], state: State, into: Artifact) -> bool:
    """Fill in one part unless that was done; return whether there was anything to do."""
    name = into.part(part.key)
    into.note_recipe(store)
    if store.exists(name):
        return False
    tables = {m: read_table(store, artifact.part(part.key), part.n_videos) for m, artifact in features.items()}
    blocks: dict[str, np.ndarray] = {m: to_vectors(table.column("vector")) for m, table in tables.items()}
    columns: dict[str, pa.Array] = {"video_id": pa.array([v.video_id for v in load_part(store, part)], pa.string())}
    empty = completion.empty_rows(blocks)
    with _alone, threadpool_limits(1, user_api="blas"):  # products split among threads may round differently
        completed = completion.complete(blocks, state)
    for modality, vectors in completed.items():
        observed = ~np.isnan(blocks[modality]).any(axis=1)
        filled = np.where(empty[:, None], np.float32(np.nan), vectors)  # nothing is known about such a video
        columns[modality] = from_vectors(filled)
        columns[f"{modality}_observed"] = pa.array(observed)
    write_with_digest(store, name, encode(_with_terms_of(pa.table(columns), tables)))
    return True


def _with_terms_of(completed: pa.Table, features: Mapping[str, pa.Table]) -> pa.Table:
    """Return a completed part with the term weights of its feature sets."""
    *own, own_key = term_names()
    for name, table in features.items():
        if (n_terms := (table.schema.metadata or {}).get(own_key.encode())) is not None:
            *columns, key = term_names(name)
            for column, source in zip(columns, own, strict=True):
                completed = completed.append_column(column, table.column(source))
            completed = completed.replace_schema_metadata({**(completed.schema.metadata or {}), key: n_terms})
    return completed


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
    files = [artifact.part(part.key) for _, part in catalogue.parts()]
    parts = zip(files, catalogue.parts(), strict=True)
    tables = [read_table(store, file, part.n_videos) for file, (_, part) in parts]
    names = completed_names(tables[0])
    terms = {m: [to_terms(table, file, m) for table, file in zip(tables, files, strict=True)] for m in names}
    return FeatureRows(
        {m: np.concatenate([to_vectors(table.column(m)) for table in tables]) for m in names},
        {m: np.concatenate([table.column(f"{m}_observed").to_numpy() for table in tables]) for m in names},
        terms=_joined_terms(terms, [len(table) for table in tables]),
    )


def load_all_terms(store: Store, catalogue: Catalogue, features: Mapping[str, Artifact]) -> dict[str, "csr_array"]:
    """Return the term weights of a catalogue's videos, in order, by the feature sets that have some."""
    parts = [part for _, part in catalogue.parts()]
    found = {name: [load_terms(store, artifact, part) for part in parts] for name, artifact in features.items()}
    return _joined_terms(found, [part.n_videos for part in parts])


def _joined_terms(parts: Mapping[str, Sequence["csr_array | None"]], n_videos: Sequence[int]) -> dict[str, "csr_array"]:
    """Return the matrices of all parts below each other; a part without any has empty rows."""
    from scipy.sparse import csr_array, vstack

    joined = {}
    for name, matrices in parts.items():
        widths = {matrix.shape[1] for matrix in matrices if matrix is not None}
        if len(widths) > 1:
            raise StoreError(
                f"The parts of the feature set {name} have different numbers of terms ({sorted(widths)}). Delete its "
                "folders in features and completed, and repeat the command that created them."
            )
        for width in widths:
            given = zip(matrices, n_videos, strict=True)
            blocks = [csr_array((n, width), dtype=np.float32) if matrix is None else matrix for matrix, n in given]
            joined[name] = csr_array(vstack(blocks, format="csr"))
    return joined
