"""Search for similar videos of a store, exact and part by part: never more than a few thousand vectors in memory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmcl.flows.run.stored import StoredSets, StoredVideo
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Split, Video
from nmcl.pipeline.stages.distances import Standard, distances, standard_of
from nmcl.pipeline.storage.artifacts import Artifact
from nmcl.pipeline.storage.catalogue import Crawl, Part, load_part
from nmcl.pipeline.storage.tables import read_table, to_vectors
from nmcl.pipeline.text import listed

FUSED = "fused"
"""All feature sets together, with completed vectors: a distance is the mean of theirs."""
SAMPLE = 4096
"""Number of videos, in evenly spaced parts, from which vectors are standardised."""


@dataclass(frozen=True)
class Neighbour:
    """A video near another one."""

    video_id: str
    crawl: str
    path: str
    label: str | None
    split: Split | None
    distance: float
    """From 0 (same) over 1 (unrelated) to 2; see `nmcl.pipeline.stages.distances`."""
    same_bytes: bool
    """Whether it is a copy of the file."""


Vectors = Mapping[str, np.ndarray]
"""Vectors by feature set, shape (N, D), float32; NaN rows where absent."""


@dataclass(frozen=True)
class Space:
    """Vectors of one feature set, or of all together, in which distances are measured."""

    sets: StoredSets
    name: str
    """A feature set, or `fused`."""

    def __post_init__(self) -> None:
        known = [*self.sets.features, FUSED]
        if self.name not in known:
            raise UserError(f"There is no feature set {self.name!r}. Expected one of {listed(known)}.")
        if self.name == FUSED and (self.sets.completed is None or not self.parts):
            out = self.sets.store.url
            raise StoreError(
                f"{out} has no completed vectors. Make them, `nmcl complete --out {out}`, or choose one of "
                f"{listed(self.sets.features)} with --features."
            )
        if not self.parts:
            raise StoreError(f"No video of {self.sets.store.url} has vectors of {self.name}. Run `nmcl extract` first.")

    @property
    def names(self) -> list[str]:
        """The feature sets."""
        return list(self.sets.features) if self.name == FUSED else [self.name]

    @property
    def artifact(self) -> Artifact:
        """Where the vectors are."""
        if self.name != FUSED:
            return self.sets.features[self.name]
        assert self.sets.completed is not None
        return self.sets.completed

    @cached_property
    def parts(self) -> list[tuple[Crawl, Part]]:
        """The parts of the catalogue that have these vectors."""
        return self.sets.parts_of(self.artifact)

    def vectors(self, part: Part) -> Vectors:
        """Return the vectors of a part."""
        if part.key in self._sampled:
            return self._sampled[part.key]
        return self._read(part)

    def _read(self, part: Part) -> Vectors:
        table = read_table(self.sets.store, self.artifact.part(part.key), part.n_videos)
        columns = {name: name if self.name == FUSED else "vector" for name in self.names}
        if absent := [column for column in columns.values() if column not in table.column_names]:
            raise self.sets.store.damaged(self.artifact.part(part.key), f"no column {absent[0]!r}")
        return {name: to_vectors(table.column(column)) for name, column in columns.items()}

    @cached_property
    def _sampled(self) -> dict[str, Vectors]:
        n_parts = max(1, SAMPLE // max(part.n_videos for _, part in self.parts))
        even = np.unique(np.linspace(0, len(self.parts) - 1, min(n_parts, len(self.parts))).round().astype(int))
        return {self.parts[i][1].key: self._read(self.parts[i][1]) for i in even}

    @cached_property
    def standards(self) -> dict[str, Standard]:
        """Mean and deviation by feature set that any video of the sample has."""
        found = {name: standard_of(v[name] for v in self._sampled.values()) for name in self.names}
        return {name: standard for name, standard in found.items() if standard is not None}

    def distances(self, vectors: Vectors, query: Vectors) -> np.ndarray:
        """Return the distances of N videos from one: shape (N,), float32; NaN where one of them has no vector.

        Args:
            query: Vectors of shape (1, D).
        """
        each = [
            distances(standard.directions(vectors[name]), standard.directions(query[name])[0])
            for name, standard in self.standards.items()
        ]
        if not each:
            return np.full(len(next(iter(vectors.values()))), np.nan, np.float32)
        mean: np.ndarray = np.mean(each, axis=0)
        return mean


def vectors_of(space: Space, video: StoredVideo) -> Vectors:
    """Return the vectors of a video of the store, shape (1, D) each.

    Raises:
        StoreError: If it was not extracted, or has none.
    """
    out = space.sets.store.url
    if not space.sets.store.exists(space.artifact.part(video.part.key)):
        raise StoreError(f"{video.name} has no {space.name} vectors yet. Run `nmcl complete --out {out}` first.")
    vectors = {name: block[video.row : video.row + 1] for name, block in space.vectors(video.part).items()}
    if any(np.isnan(vector).any() for vector in vectors.values()):
        raise StoreError(
            f"{video.name} has no {space.name} vector; `nmcl explain {video.name} --out {out}` says why. "
            "Use another --features."
        )
    return vectors


def nearest(
    space: Space,
    query: Vectors,
    n: int,
    of: Video | None = None,
    only: Callable[[Video], bool] | None = None,
    progress: Progress = silent,
) -> list[Neighbour]:
    """Return the n nearest videos of the store's crawls, the nearest first.

    Args:
        query: Vectors of shape (1, D).
        of: The video that the vectors are of; it is left out, and copies of it are marked.
        only: Which videos are considered; None: all.
    """
    best: list[tuple[float, int, int]] = []
    for number, (_, part) in enumerate(space.parts):
        apart = space.distances(space.vectors(part), query)
        if only is not None:
            apart[[not only(video) for video in load_part(space.sets.store, part)]] = np.nan
        order = np.argsort(apart, kind="stable")[: n + 1]  # one more than wanted: `of` itself; NaN comes last
        best += [(float(apart[row]), number, int(row)) for row in order if not np.isnan(apart[row])]
        best = sorted(best)[: n + 1]
        progress("search", number + 1, len(space.parts))
    parts = {number: load_part(space.sets.store, space.parts[number][1]) for _, number, _ in best}
    found = [(parts[number][row], distance) for distance, number, row in best]
    return [_neighbour(space.sets, video, distance, of) for video, distance in found if _differs(video, of)][:n]


def _differs(video: Video, of: Video | None) -> bool:
    return of is None or (video.crawl, video.video_id) != (of.crawl, of.video_id)


def _neighbour(sets: StoredSets, video: Video, distance: float, of: Video | None) -> Neighbour:
    return Neighbour(
        video_id=video.video_id,
        crawl=video.crawl,
        path=video.path,
        label=video.venue,
        split=sets.split_of(video),
        distance=round(distance, 6),
        same_bytes=of is not None and bool(of.sha256) and video.sha256 == of.sha256,
    )
