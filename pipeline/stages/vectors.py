"""Parts of vectors, one artifact per feature set: written by the extraction stage, read by all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nmcl.pipeline.extractor import Extracted, Extractor, vectors_of
from nmcl.pipeline.libraries import Versions, merged, versions_in, versions_of, with_versions
from nmcl.pipeline.needs import OCR, Frames, Need, Sound, Stream, Text
from nmcl.pipeline.records import Content, State, Steps, Video
from nmcl.pipeline.storage.artifacts import Artifact, digest_file, write_with_digest
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import (
    SEQUENCE,
    SEQUENCE_TIMES,
    TERMS,
    TermRow,
    encode,
    from_sequences,
    from_vectors,
    is_null,
    read_table,
    to_sequences,
    to_terms,
    to_vectors,
    with_terms,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Feature:
    """A feature set: the extractor, its fitted state, and the output artifact."""

    extractor: Extractor
    state: State
    artifact: Artifact
    code: str = ""
    """Address of the present recipe, for the parts' metadata, if the artifact itself names earlier code."""


class PartOfVectors:
    """Rows of one feature set's part: all new, or as written with some of them recomputed."""

    def __init__(self, feature: Feature, videos: Sequence[Video], written: pa.Table | None) -> None:
        self._feature = feature
        self._videos = videos
        self.is_new = written is None
        self._is_changed = self.is_new
        self._remarks: list[str | None] = [None] * len(videos)
        self._key_frames_s: list[Sequence[float]] = [()] * len(videos)
        self._sequences: list[np.ndarray | None] | None = None
        self._times_s: list[Sequence[float] | None] = [None] * len(videos)
        self._terms: list[TermRow | None] | None = None
        self._n_terms = 0
        self._before: Versions | None = None
        if written is None:
            self._vectors = np.full((len(videos), feature.extractor.dim), np.nan, np.float32)
            return
        self._vectors = to_vectors(written.column("vector"))
        self._before = versions_in(written)
        if "remark" in written.column_names:
            self._remarks = written.column("remark").to_pylist()
        if "key_frames_s" in written.column_names:
            self._key_frames_s = written.column("key_frames_s").to_pylist()
        if SEQUENCE in written.column_names:
            self._sequences = to_sequences(written.column(SEQUENCE))
            self._times_s = written.column(SEQUENCE_TIMES).to_pylist()
        if (terms := to_terms(written, feature.artifact.folder)) is not None:
            absent = is_null(written.column(TERMS))
            self._n_terms = terms.shape[1]
            self._terms = [None if none else row for none, row in zip(absent, _rows(terms), strict=True)]

    @property
    def name(self) -> str:
        """Name of the feature set."""
        return self._feature.artifact.kind.rpartition("/")[2]

    @property
    def need(self) -> Need:
        return self._feature.extractor.need

    @property
    def stream(self) -> Stream | None:
        """What a file must be decoded to for these vectors."""
        return Frames.stream if self.need == Text(OCR) else self.need.stream

    def add(self, rows: Sequence[tuple[int, Content]]) -> None:
        """Add contents with their positions among the videos."""
        rows = [(i, content) for i, content in rows if np.isnan(self._vectors[i]).any()]
        if not rows:
            return
        self._is_changed = True
        clips = [content.clip(self.need) for _, content in rows]
        extracted = self._feature.extractor.extract(clips, self._feature.state)
        if isinstance(extracted, Extracted):
            self._add_beside([i for i, _ in rows], extracted)
        for (i, content), clip, vector in zip(rows, clips, vectors_of(extracted), strict=True):
            problem = content.problems.get(self.need.stream) if self.need.stream else None
            self._vectors[i] = vector
            self._remarks[i] = problem.detail if problem else None
            self._key_frames_s[i] = clip.frame_times_s

    def _add_beside(self, rows: Sequence[int], extracted: Extracted) -> None:
        """Add the sequences or term weights of some rows."""
        if extracted.sequences is not None:
            self._sequences = self._sequences or [None] * len(self._videos)
            for i, sequence, times_s in zip(rows, extracted.sequences, extracted.times_s, strict=True):
                self._sequences[i], self._times_s[i] = sequence, None if sequence is None else times_s
        if extracted.terms is not None:
            self._n_terms = extracted.terms.shape[1]
            self._terms = self._terms or [None] * len(self._videos)
            for i, vector, row in zip(rows, extracted.vectors, _rows(extracted.terms), strict=True):
                self._terms[i] = None if np.isnan(vector).any() else row

    def write(self, store: Store, part: Part) -> None:
        """Write the part, unless nothing of it changed."""
        name = self._feature.artifact.part(part.key)
        if not self._is_changed and store.exists(digest_file(store, name)):
            return
        columns: dict[str, pa.Array] = {
            "video_id": pa.array([video.video_id for video in self._videos], pa.string()),
            "vector": from_vectors(self._vectors),
        }
        if isinstance(self.need, Frames):
            columns["key_frames_s"] = pa.array(self._key_frames_s, pa.list_(pa.float32()))
        if isinstance(self.need, Sound):
            columns["remark"] = pa.array(self._remarks, pa.string())
        if self._sequences is not None:
            columns[SEQUENCE] = from_sequences(self._sequences, self._vectors.shape[1])
            columns[SEQUENCE_TIMES] = pa.array(self._times_s, pa.list_(pa.float32()))
        table = pa.table(columns)
        if self._feature.code:
            table = table.replace_schema_metadata({"made_as": self._feature.code})
        if self._terms is not None:
            table = with_terms(table, self._terms, self._n_terms)
        table = with_versions(table, self._versions())
        self._feature.artifact.note_recipe(store)
        write_with_digest(store, name, encode(table))

    def _versions(self) -> Versions | None:
        """Return the versions of the libraries that made the rows; None if those of earlier rows are unknown."""
        here = versions_of(self._feature.extractor, self.need)
        if self.is_new:
            return here
        return None if self._before is None else merged([self._before, here])


def load_vectors(store: Store, artifact: Artifact, part: Part) -> np.ndarray:
    """Return a feature set's vectors of a part: shape (part.n_videos, D), float32, NaN rows where absent."""
    return to_vectors(read_table(store, artifact.part(part.key), part.n_videos).column("vector"))


def load_terms(store: Store, artifact: Artifact, part: Part) -> "csr_array | None":
    """Return a feature set's term weights of a part: shape (part.n_videos, T), float32, empty rows where absent.

    None if the part has none.
    """
    name = artifact.part(part.key)
    return to_terms(read_table(store, name, part.n_videos), name)


def load_sequences(store: Store, artifact: Artifact, part: Part) -> list[Steps | None]:
    """Return the sequences that a part's vectors were pooled from.

    None where the modality is absent, and everywhere if the feature set was made without `sequence = true`.
    """
    table = read_table(store, artifact.part(part.key), part.n_videos)
    if SEQUENCE not in table.column_names:
        return [None] * part.n_videos
    times = table.column(SEQUENCE_TIMES).to_pylist()
    return [
        None if vectors is None else Steps(vectors, np.array(times_s, np.float32))
        for vectors, times_s in zip(to_sequences(table.column(SEQUENCE)), times, strict=True)
    ]


def _rows(matrix: "csr_array") -> list[TermRow]:
    """Return the columns and weights of each row of a matrix with sorted columns."""
    ends = matrix.indptr[1:-1]
    columns, weights = (np.split(values, ends) for values in (matrix.indices.astype(np.int32), matrix.data))
    return list(zip(columns, weights, strict=True))[: matrix.shape[0]]
