"""A small store made by hand: unsorted and odd ids, two crawls, missing modalities, unlabelled rows, sequences."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nmcl.pipeline.export.record import Export, Missing
from nmcl.pipeline.export.source import Source, export_of
from nmcl.pipeline.libraries import with_versions
from nmcl.pipeline.records import Modality, Split, State, Video
from nmcl.pipeline.storage.artifacts import Artifact, save_state
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, make_part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_sequences, from_vectors

IDS = ("zebra", "10", "2", "-dQw4w9Wg", "a/b.c", "../evil", "=1+1", "ключ", "A", "a", "two words", "last")
_SPLITS = ("test", "train", None, "validation", "train", "train", "test", None, "train", "train", "validation", None)
SPLITS: tuple[Split | None, ...] = _SPLITS
LABELS = ("Beach", "Slope", None, "Beach", "Slope", "Beach", "Slope", None, "Beach", "Slope", "Slope", None)
DIMS: dict[Modality, int] = {"visual": 6, "acoustic": 3, "textual": 2}
NAMES: dict[str, Modality] = {"resnet": "visual", "spectrum": "acoustic", "words": "textual", "second": "visual"}
MISSING = {"resnet": {1, 5}, "spectrum": {0, 1, 7}, "words": {1, 2}, "second": {1}}
"""Rows without a vector; row 1 has none at all."""
N = len(IDS)


@dataclass(frozen=True)
class World:
    """The store and what is in it."""

    store: Store
    catalogue: Catalogue
    videos: list[Video]
    sources: list[Source]
    vectors: dict[str, np.ndarray]
    """By feature set, (N, D); the completed vector where it is missing."""
    sequences: list[np.ndarray | None]
    """Of `spectrum`."""

    def export(self, missing: Missing = "completed", sequences: bool = False, names: tuple[str, ...] = ()) -> Export:
        chosen = [source for source in self.sources if source.name in (names or NAMES)]
        splits = list(SPLITS)
        return export_of(self.store, self.catalogue, self.videos, splits, chosen, missing, sequences, "the test")

    def expected(self, name: str, missing: Missing) -> np.ndarray:
        """What an export has in the rows of one feature set."""
        found = self.vectors[name].copy()
        gaps = sorted(MISSING[name])
        if missing != "completed":
            found[gaps] = np.nan if missing == "nan" else 0
        elif name == "second":
            found[gaps] = 0  # nothing was completed
        found[1] = np.nan if missing == "nan" else 0  # nothing is known about it
        return found


def make_world(folder: Path, part_size: int = 5) -> World:
    """Make the store, in parts."""
    rng = np.random.default_rng(0)
    store = Store.create(folder / "out")
    videos = [
        Video(i, "clips", f"{n}.mp4", f"{n:064x}", 1, None if n == 2 else f"says {i}", LABELS[n], SPLITS[n], None)
        for n, i in enumerate(IDS)
    ]
    parts = [make_part(store, videos[i : i + part_size]) for i in range(0, N, part_size)]
    catalogue = Catalogue((Crawl("clips", "/nowhere", tuple(parts), ()),))
    completed = Artifact("completed/all", {"completion": "0" * 12})
    vectors = {name: rng.standard_normal((N, DIMS[m])).astype(np.float32) for name, m in NAMES.items()}
    lengths = rng.integers(1, 5, N)
    sequences: list[np.ndarray | None] = [
        None if n in MISSING["spectrum"] else rng.standard_normal((lengths[n], 3)).astype(np.float32) for n in range(N)
    ]
    sources = []
    for name, modality in NAMES.items():
        artifact = Artifact(f"features/{name}", {"state": None, "name": name}, {modality: {"dim": DIMS[modality]}})
        artifact.note_recipe(store)
        state = Artifact(f"states/{name}", {"name": name})
        if name == "spectrum":
            save_state(store, state, State(info={"made_with": {"librosa": ["0.11"]}}))
        made_from = (state,) if name == "spectrum" else ()
        sources.append(Source(name, modality, artifact, None if name == "second" else completed, made_from))
        for i, part in enumerate(parts):
            rows = range(i * part_size, min(N, (i + 1) * part_size))
            block = vectors[name][rows.start : rows.stop].copy()
            block[[n - rows.start for n in rows if n in MISSING[name]]] = np.nan
            columns = {"video_id": pa.array([IDS[n] for n in rows]), "vector": from_vectors(block)}
            if name == "spectrum":
                columns["sequence"] = from_sequences(sequences[rows.start : rows.stop], 3)
                columns["sequence_s"] = pa.array(
                    [s if s is None else s[:, 0] for s in sequences[rows.start : rows.stop]], pa.list_(pa.float32())
                )
            made_with = {"torch": [f"2.{i}"]} if name == "resnet" and i < 2 else None
            store.write(artifact.part(part.key), encode(with_versions(pa.table(columns), made_with)))
    _complete(store, completed, parts, vectors, part_size)
    return World(store, catalogue, videos, sources, vectors, sequences)


def _complete(store: Store, completed: Artifact, parts: list, vectors: dict[str, np.ndarray], size: int) -> None:
    completed.note_recipe(store)
    for i, part in enumerate(parts):
        rows = range(i * size, min(N, (i + 1) * size))
        columns = {"video_id": pa.array([IDS[n] for n in rows])}
        for name in NAMES:
            block = vectors[name][rows.start : rows.stop].copy()
            block[[n - rows.start for n in rows if n == 1]] = np.nan
            columns[name] = from_vectors(block)
            columns[f"{name}_observed"] = pa.array([n not in MISSING[name] for n in rows])
        for modality, dim in DIMS.items():  # columns that every file of completed vectors has today
            columns[modality] = from_vectors(np.zeros((len(rows), dim), np.float32))
            columns[f"{modality}_observed"] = pa.array([True] * len(rows))
        store.write(completed.part(part.key), encode(pa.table(columns)))
