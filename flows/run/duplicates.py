"""Search for near-duplicates: videos with other bytes but the same content, such as re-encodes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nmcl.flows.run.similar import Space
from nmcl.flows.run.stored import StoredSets
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Split
from nmcl.pipeline.stages.distances import close_pairs
from nmcl.pipeline.storage.artifacts import modality_of
from nmcl.pipeline.storage.catalogue import Part, load_part

THRESHOLD = 0.2
GROUP_VIDEOS = 4096
"""Videos that are compared with all later ones in one pass over the store."""
MAX_PAIRS = 200_000
"""More pairs mean that the threshold is too large, or that vectors say nothing."""


@dataclass(frozen=True)
class NearDuplicate:
    """Two videos with different bytes that are close in every feature set of picture and sound that both have."""

    video_id: str
    crawl: str
    path: str
    label: str | None
    split: Split | None
    other_video_id: str
    other_crawl: str
    other_path: str
    other_label: str | None
    other_split: Split | None
    distance: float
    """The largest of their distances by feature set."""
    crosses_splits: bool
    """Whether they are in different splits, so that one leaks into the other's scores."""


_Place = tuple[int, int]
"""Numbers of a part, and of a row in it."""


def near_duplicates(sets: StoredSets, threshold: float = THRESHOLD, progress: Progress = silent) -> list[NearDuplicate]:
    """Return all pairs of near-duplicates: those that cross splits first, then the closest first.

    Candidates are close in the first feature set of pictures (without one: of sound). They must then be as close in
    every other set of picture or sound that both have.

    Raises:
        StoreError: If the store has no feature set of picture or sound.
        UserError: If far too many pairs are as close.
    """
    first, *others = _spaces(sets)
    candidates = _candidates(first, threshold, progress)
    for space in others:
        candidates = _confirmed(space, first, candidates, threshold)
    videos = {
        number: load_part(sets.store, first.parts[number][1]) for number in {n for pair in candidates for n, _ in pair}
    }
    pairs = []
    for ((number, row), (other_number, other_row)), distance in candidates.items():
        video, other = videos[number][row], videos[other_number][other_row]
        if video.sha256 and video.sha256 == other.sha256:
            continue
        split, other_split = sets.split_of(video), sets.split_of(other)
        crosses = split is not None and other_split is not None and split != other_split
        pairs.append(
            NearDuplicate(
                *(video.video_id, video.crawl, video.path, video.venue, split),
                *(other.video_id, other.crawl, other.path, other.venue, other_split),
                distance=round(distance, 6),
                crosses_splits=crosses,
            )
        )
    return sorted(pairs, key=lambda pair: (not pair.crosses_splits, pair.distance, pair.video_id, pair.other_video_id))


def _spaces(sets: StoredSets) -> list[Space]:
    modality = {name: modality_of(sets.store, artifact.folder) for name, artifact in sets.features.items()}
    names = [name for wanted in ("visual", "acoustic") for name, found in modality.items() if found == wanted]
    if not names:
        raise StoreError(f"{sets.store.url} has no feature set of pictures or sound; near-duplicates need one.")
    return [Space(sets, name) for name in names]


def _candidates(space: Space, threshold: float, progress: Progress) -> dict[tuple[_Place, _Place], float]:
    """Return the pairs that are close in one space, each once, in order of the store."""
    parts = [part for _, part in space.parts]
    found: dict[tuple[_Place, _Place], float] = {}
    for begin, end in _groups(parts):
        own = [_directions(space, part) for part in parts[begin:end]]
        places = [(begin + i, row) for i, block in enumerate(own) for row in range(len(block))]
        group = np.concatenate(own)
        for number in range(begin, len(parts)):
            block = own[number - begin] if number < end else _directions(space, parts[number])
            for i, row, distance in close_pairs(group, block, threshold):
                if places[i] < (number, row):
                    found[places[i], (number, row)] = distance
                if len(found) > MAX_PAIRS:
                    raise UserError(
                        f"More than {MAX_PAIRS:,} pairs are closer than {threshold:g}. Give a smaller --threshold."
                    )
        progress("compare videos", end, len(parts))
    return found


def _directions(space: Space, part: Part) -> np.ndarray:
    (name,) = space.names
    if name not in space.standards:
        return np.full((part.n_videos, 1), np.nan, np.float32)
    return space.standards[name].directions(space.vectors(part)[name])


def _groups(parts: Sequence[Part]) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of stretches of parts with about `GROUP_VIDEOS` videos."""
    begin, n_videos = 0, 0
    for number, part in enumerate(parts):
        if n_videos and n_videos + part.n_videos > GROUP_VIDEOS:
            yield begin, number
            begin, n_videos = number, 0
        n_videos += part.n_videos
    if n_videos:
        yield begin, len(parts)


def _confirmed(
    space: Space, first: Space, candidates: dict[tuple[_Place, _Place], float], threshold: float
) -> dict[tuple[_Place, _Place], float]:
    """Return the candidates that another space does not contradict, with the larger distance."""
    rows: dict[int, set[int]] = {}
    for pair in candidates:
        for number, row in pair:
            rows.setdefault(number, set()).add(row)
    known = {part.key for _, part in space.parts}
    directions: dict[_Place, np.ndarray] = {}
    for number, wanted in rows.items():
        part = first.parts[number][1]
        if part.key in known:
            block = _directions(space, part)
            directions |= {(number, row): block[row] for row in wanted}
    kept = {}
    for pair, distance in candidates.items():
        one, other = (directions.get(place) for place in pair)
        if one is not None and other is not None:
            apart = float(max(0.0, 1 - one @ other))
            distance = distance if np.isnan(apart) else max(distance, apart)
        if distance <= threshold:
            kept[pair] = distance
    return kept
