"""Catalogue of a store's crawls, divided into parts once. A later crawl adds parts and changes none."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

from annotated_types import Ge

from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.shapes import Address, Name
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_videos, read_table, to_videos

TRAINING = "catalogue.json"
"""Catalogue of the crawls that a store is trained on. Crawls that are only predicted have catalogues of their own."""


@dataclass(frozen=True)
class Part:
    """Fixed slice of a crawl, the unit of work."""

    key: Address
    """Hash of everything that extractors see of its videos; names the part's file in every artifact."""
    rows: Address
    """Hash of its rows, labels included; names the part's file of the catalogue."""
    n_videos: Annotated[int, Ge(1)]

    @property
    def file(self) -> str:
        """Name of the file of its rows in the store."""
        return f"videos/part-{self.rows}.parquet"


@dataclass(frozen=True)
class Crawl:
    """One ingested folder."""

    name: Name
    """Name of the folder, made unique within the store."""
    folder: str
    """Location when it was ingested: an absolute path."""
    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    """Messages about the manifest that the user was shown."""


@dataclass(frozen=True)
class Catalogue:
    """All crawls with the same purpose (training or prediction), in the order they were added."""

    crawls: tuple[Crawl, ...] = ()

    def parts(self) -> Iterator[tuple[Crawl, Part]]:
        """Yield every part with the crawl it belongs to."""
        for crawl in self.crawls:
            for part in crawl.parts:
                yield crawl, part

    @property
    def n_videos(self) -> int:
        """Total number of rows."""
        return sum(part.n_videos for _, part in self.parts())

    def videos(self, store: Store) -> list[Video]:
        """Return all rows, in order."""
        return [video for _, part in self.parts() for video in load_part(store, part)]

    def with_crawl(self, crawl: Crawl) -> "Catalogue":
        """Return the catalogue with one crawl added, or replaced if its folder is known."""
        others = [c if c.folder != crawl.folder else crawl for c in self.crawls]
        return Catalogue(tuple(others) if crawl in others else (*others, crawl))


def part_of(videos: Sequence[Video]) -> Part:
    """Return the part that holds these rows."""
    key = digest([[v.video_id, v.sha256, v.description] for v in videos])
    return Part(key, rows=digest([asdict(video) for video in videos]), n_videos=len(videos))


def make_part(store: Store, videos: Sequence[Video]) -> Part:
    """Write a slice of the catalogue, unless it exists."""
    part = part_of(videos)
    if not store.exists(part.file):
        store.write(part.file, encode(from_videos(videos)))
    return part


def load_part(store: Store, part: Part) -> list[Video]:
    """Return the rows of a part."""
    return to_videos(read_table(store, part.file, part.n_videos))


def load_catalogue(store: Store, name: str = TRAINING) -> Catalogue:
    """Load a catalogue, empty if nothing was ingested; raise StoreError if it is damaged."""
    found = store.find_record(name, Catalogue)
    if found is None:
        return Catalogue()
    if not found.crawls:  # an empty catalogue is never written
        raise store.damaged(name, "no crawl is in it")
    return found


def all_catalogues(store: Store) -> list[str]:
    """Return the names of a store's catalogues: that of the training crawls, and those of predicted crawls."""
    return [TRAINING, *(f"predicted/{name}" for name in store.list("predicted") if name.endswith(".json"))]


def save_catalogue(store: Store, catalogue: Catalogue, name: str = TRAINING) -> None:
    """Write the catalogue, the last file of an ingest, so that everything it names exists."""
    if load_catalogue(store, name) != catalogue:
        store.write_json(name, asdict(catalogue))
