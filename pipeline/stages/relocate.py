"""Relocation of a crawl that was moved: the catalogues of a store name its new place, and nothing else changes."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nmcl.pipeline.crawl.source import CrawlSource, crawl_source
from nmcl.pipeline.errors import CrawlError, StoreError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Video
from nmcl.pipeline.stages.ingest import predicted_catalogue, refuse_nesting, rejected_file
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, Crawl, load_catalogue, load_part, save_catalogue
from nmcl.pipeline.storage.runs import CATALOGUE, all_runs
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import counted, examples, listed

SAMPLE = 32
"""Number of files whose content is read and compared."""


@dataclass(frozen=True)
class Relocation:
    """A crawl that was found in another place."""

    old: str
    """Address in the catalogues."""
    new: str
    catalogues: tuple[str, ...]
    """Files of the store that name the crawl's address, in the order in which they change."""
    n_files: int
    """Number of files that were compared by size."""
    n_read: int
    """Number of files whose content was compared."""


def find_relocation(
    store: Store, old: str, new: str, n_sample: int = SAMPLE, progress: Progress = silent
) -> Relocation:
    """Compare a crawl in its new place with the catalogues, without changing anything.

    Args:
        old: Address or name of a crawl of the store.
        new: Folder or URL where it is now.
        n_sample: Files whose content is read and compared; all others are compared by size.

    Raises:
        StoreError: If the store does not know the crawl.
        CrawlError: If the new place does not hold the same files, or is another crawl of the store.
    """
    catalogues = _catalogues(store)
    source, address = crawl_source(new), _address(store, catalogues, old)
    if source.address == address:
        raise CrawlError(f"The crawl is already at {address} in {store.url}. Give the place to which it was moved.")
    named = [name for name, catalogue in catalogues.items() if any(c.folder == address for c in catalogue.crawls)]
    for name in named:
        if any(crawl.folder == source.address for crawl in catalogues[name].crawls):
            raise CrawlError(f"{source.address} is another crawl of {name} in {store.url}. Give another place.")
    refuse_nesting(store, source.address)
    source.require()
    parts = [part for crawl in catalogues[named[-1]].crawls if crawl.folder == address for part in crawl.parts]
    found = {video.path: video for part in parts for video in load_part(store, part) if video.sha256}
    files = [found[path] for path in sorted(found)]
    _compare_sizes(source, files)
    n_read = _compare_content(source, files, n_sample, progress)
    return Relocation(address, source.address, tuple(named), len(files), n_read)


def _catalogues(store: Store) -> dict[str, Catalogue]:
    """Return every catalogue of the store by its name. The last one that names a crawl has its newest version."""
    names = [run.file(CATALOGUE) for run in all_runs(store)]
    names += [f"predicted/{name}" for name in store.list("predicted") if name.endswith(".json")]
    return {name: load_catalogue(store, name) for name in [*names, TRAINING]}


def _address(store: Store, catalogues: dict[str, Catalogue], old: str) -> str:
    """Return the address of the crawl that the user means: by its address, or else by its name."""
    crawls: Sequence[Crawl] = [crawl for catalogue in catalogues.values() for crawl in catalogue.crawls]
    known = list(dict.fromkeys(crawl.folder for crawl in crawls))
    given = old.rstrip("/") or old
    for candidate in (given, crawl_source(old).address):
        if candidate in known:
            return candidate
    named = list(dict.fromkeys(crawl.folder for crawl in crawls if crawl.name == given))
    if len(named) != 1:
        raise StoreError(f"{store.url} knows no crawl at {old}. Its crawls are at {listed(known) or 'no place'}.")
    return named[0]


def _compare_sizes(source: CrawlSource, files: Sequence[Video]) -> None:
    missing, other = [], []
    for video in files:
        stat = source.stat(video.path)
        if stat is None:
            missing.append(video.path)
        elif stat[0] != video.n_bytes:
            other.append(video.path)
    for names, what in ((missing, "missing in"), (other, "of another size in")):
        if names:
            raise CrawlError(
                f"{len(names):,} of {counted(len(files), 'file')} are {what} {source.address}: {examples(names)}. "
                "Give the place that holds the same files, or ingest this one as a new crawl: `nmcl ingest`."
            )


def _compare_content(source: CrawlSource, files: Sequence[Video], n_sample: int, progress: Progress) -> int:
    chosen = random.Random(0).sample(files, min(n_sample, len(files)))
    for done, video in enumerate(chosen, start=1):
        try:
            with source.open(video.path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
        except OSError as error:
            raise CrawlError(f"{source.address}/{video.path} cannot be read: {error.strerror or error}.") from error
        if found != video.sha256:
            raise CrawlError(
                f"{source.address}/{video.path} has other content than the ingested file (SHA-256 {found[:12]}..., "
                f"expected {video.sha256[:12]}...). Ingest this place as a new crawl: `nmcl ingest`."
            )
        progress("compare files", done, len(chosen))
    return len(chosen)


def relocate(store: Store, relocation: Relocation) -> None:
    """Write the new address into every catalogue. After an interruption the same call does the rest.

    The catalogue of a predicted crawl is named by the crawl's address, and gets its new name.
    """
    for name in relocation.catalogues:
        catalogue = load_catalogue(store, name)
        moved = tuple(
            replace(crawl, folder=relocation.new) if crawl.folder == relocation.old else crawl
            for crawl in catalogue.crawls
        )
        renamed = _renamed(name, relocation)
        save_catalogue(store, Catalogue(moved), renamed)
        if renamed != name:
            for crawl in catalogue.crawls:
                before = rejected_file(crawl.name, relocation.old, name)
                if store.exists(before):
                    store.write(rejected_file(crawl.name, relocation.new, renamed), store.read(before))
                    store.remove(before)
            store.remove(name)


def _renamed(name: str, relocation: Relocation) -> str:
    """Return the name of a catalogue after the relocation: see `predicted_catalogue`."""
    return predicted_catalogue(relocation.new) if name == predicted_catalogue(relocation.old) else name
