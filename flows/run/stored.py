"""A store's feature sets and videos as they are stored: read without settings, extractors or networks."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from nmcl.flows.run.lineage import frozen_of
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.records import Split, Video
from nmcl.pipeline.storage.artifacts import Artifact, recipe_file
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, Crawl, Part, all_catalogues, load_catalogue, load_part
from nmcl.pipeline.storage.lineage import completed_with, failures_with, features_of, states_of, stored_artifact
from nmcl.pipeline.storage.runs import Run, run_of
from nmcl.pipeline.storage.store import Store

N_SHOWN = 3
"""Number of videos that are listed if a name fits several."""


@dataclass(frozen=True)
class StoredSets:
    """The feature sets of a run, or of a store without a run."""

    store: Store
    catalogue: Catalogue
    """All crawls of the store, also those that are newer than the run."""
    run: Run | None
    features: Mapping[str, Artifact]
    """Vectors by feature set."""
    states: Mapping[str, Artifact]
    """States of the fitted extractors."""
    completion: Artifact | None
    """State of the completer; None if nothing was completed."""

    @cached_property
    def completed(self) -> Artifact | None:
        """Completed vectors of all feature sets."""
        return completed_with(self.completion.address) if self.completion else None

    @cached_property
    def failures(self) -> Artifact | None:
        """The videos that do not decode; None if nothing is decoded."""
        return failures_with(self.features)

    @cached_property
    def splits(self) -> Mapping[str, Split]:
        """Splits of the run by content hash; empty without a run, and for a run of an earlier version."""
        return (self.run.splits if self.run else None) or {}

    def split_of(self, video: Video) -> Split | None:
        """Return the split of a video's content in the run; without a run, that of the manifest."""
        return self.splits.get(video.sha256) if self.run else video.split

    def parts_of(self, artifact: Artifact) -> list[tuple[Crawl, Part]]:
        """Return the parts of the catalogue that an artifact has."""
        files = set(self.store.list(artifact.folder))
        return [(crawl, part) for crawl, part in self.catalogue.parts() if f"part-{part.key}.parquet" in files]


def stored_sets(store: Store, run: str | None) -> StoredSets:
    """Return the feature sets of a run; without a run, the newest of each name that the store has.

    Args:
        run: Name of the run; None: the champion, else the latest run.

    Raises:
        StoreError: If there is no such run, nothing is ingested or extracted, or files of it are missing.
    """
    catalogue, found = load_catalogue(store), run_of(store, run)
    if not catalogue.crawls:
        raise StoreError(f"{store.url} has no crawl yet. Start with `nmcl ingest CRAWL --out {store.url}`.")
    if found is not None:
        frozen = frozen_of(found)
        return StoredSets(store, catalogue, found, frozen.features, frozen.states, frozen.completion)
    completion = _newest(store, "states/completion")
    if completion is not None:
        features = features_of(store, completion)
    else:
        names = sorted({folder.rpartition("-")[0] for folder in store.list("features")})
        features = {name: newest for name in names if (newest := _newest(store, f"features/{name}"))}
    if not features:
        raise StoreError(f"{store.url} has no extracted features. Run `nmcl extract --out {store.url}` first.")
    return StoredSets(store, catalogue, None, features, states_of(store, features), completion)


def _newest(store: Store, kind: str) -> Artifact | None:
    """Return the artifact of a kind whose recipe was written last; None if there is none."""
    folder, _, name = kind.partition("/")
    recipes = {
        address: recipe_file(store, f"{folder}/{found}")
        for found in store.list(folder)
        for start, _, address in [found.rpartition("-")]
        if start == name
    }
    times = {address: store.modified(file) for address, file in recipes.items() if store.exists(file)}
    return stored_artifact(store, f"{kind}-{max(times, key=lambda address: times[address])}") if times else None


@dataclass(frozen=True)
class StoredVideo:
    """A video and its place in a store."""

    catalogue: str
    """Name of its catalogue: that of the training crawls, or of a crawl that was only predicted."""
    crawl: Crawl
    part: Part
    row: int
    """Its number in the part."""
    video: Video

    @property
    def name(self) -> str:
        """Name that no other video has."""
        return f"{self.crawl.name}/{self.video.video_id}"


def find_video(store: Store, name: str) -> StoredVideo:
    """Return a video by its id, `CRAWL/ID`, its path, its hash, a unique beginning of an id or hash, or its file.

    Videos of the training crawls come before those of crawls that were only predicted. Of several videos with the same
    bytes, the hash finds the first.

    Raises:
        UserError: If no video matches, or several do.
    """
    file = os.path.realpath(name) if os.path.isfile(name) else None
    content = _hash_of(file) if file else None
    for catalogue in all_catalogues(store):
        matches = _matches(store, catalogue, name, file, content)
        if matches:
            return _only(store, name, matches)
    known = "" if file is None else " Its bytes are not those of any ingested video."
    raise UserError(
        f"There is no video {name} in {store.url}.{known} Give an id, CRAWL/ID, a path, a hash, or the beginning of an "
        "id or of a hash."
    )


def all_videos(store: Store, catalogue: Catalogue, name: str = TRAINING) -> Iterator[StoredVideo]:
    """Yield every video of a catalogue, in order, read part by part."""
    for crawl, part in catalogue.parts():
        for row, video in enumerate(load_part(store, part)):
            yield StoredVideo(name, crawl, part, row, video)


def _matches(store: Store, catalogue: str, name: str, file: str | None, content: str | None) -> list[StoredVideo]:
    """Return the videos that match best."""
    best, found = len(_WAYS), list[StoredVideo]()
    for stored in all_videos(store, load_catalogue(store, catalogue), catalogue):
        way = _way(stored, name, file, content)
        if way is not None and way < best:
            best, found = way, []
        if way == best and len(found) <= N_SHOWN:
            found.append(stored)
    return [found[0]] if best == _WAYS.index("content") else found


_WAYS = ("name", "file", "id", "path", "content", "beginning")
"""Ways in which a video is found, the best first."""


def _way(stored: StoredVideo, name: str, file: str | None, content: str | None) -> int | None:
    video = stored.video
    is_found = {
        "name": stored.name == name,
        "file": file is not None and file == f"{stored.crawl.folder}/{video.path}",
        "id": video.video_id == name,
        "path": video.path == name,
        "content": bool(video.sha256) and video.sha256 in (name.lower(), content),
        "beginning": bool(name) and (video.video_id.startswith(name) or video.sha256.startswith(name.lower())),
    }
    return next((number for number, way in enumerate(_WAYS) if is_found[way]), None)


def _only(store: Store, name: str, found: list[StoredVideo]) -> StoredVideo:
    if len({stored.video.sha256 for stored in found}) == 1 and found[0].video.sha256.startswith(name.lower()):
        return found[0]  # the beginning of a hash of several copies
    if len(found) > 1:
        names = ", ".join(stored.name for stored in found[:N_SHOWN])
        more = " and others" if len(found) > N_SHOWN else ""
        raise UserError(
            f"Several videos of {store.url} match {name}: {names}{more}. Give CRAWL/ID, or more of the name."
        )
    return found[0]


def _hash_of(file: str) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
