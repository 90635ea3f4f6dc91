"""Ingest stage: turns a folder of crawled videos into catalogue rows, identified by their content's hash."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import pyarrow as pa
from annotated_types import Interval

from nmcl.pipeline.crawl.manifest import ABSENT, MAX_REJECTED_SHARE, ColumnSettings, Listing, read_files
from nmcl.pipeline.crawl.source import CrawlSource, crawl_source
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Entry, Video
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.catalogue import (
    TRAINING,
    Catalogue,
    Crawl,
    Part,
    load_catalogue,
    load_part,
    make_part,
    save_catalogue,
)
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, read_table

_HASHES_BETWEEN_SAVES = 20_000
_TEXT, _NUMBER = pa.string(), pa.int64()
_STATS = pa.schema({"path": _TEXT, "n_bytes": _NUMBER, "mtime_ns": _NUMBER, "sha256": _TEXT})
_REJECTED = pa.schema({"line": _NUMBER, "video_id": _TEXT, "path": _TEXT, "problem": _TEXT})


@dataclass(frozen=True)
class IngestSettings:
    """Frozen settings for reading a crawl and dividing it into parts."""

    part_size: Annotated[int, Interval(ge=1, le=65_536)] = 256
    """Videos per part: the unit of work of an engine, and the most that a killed process loses."""
    max_rejected_share: Annotated[float, Interval(ge=0, le=1)] = MAX_REJECTED_SHARE
    """Share of a manifest's rows that may be unusable and are skipped. Up to 20 rows are always tolerated."""
    absent: tuple[str, ...] = ABSENT
    """Words that mean an empty cell in a manifest, and no text in a sidecar, in any case."""


def ingest(
    store: Store,
    crawl: str | Path,
    columns: ColumnSettings,
    settings: IngestSettings,
    catalogue_name: str = TRAINING,
    progress: Progress = silent,
) -> Catalogue:
    """Read a crawl, hash its files, and write new videos into the catalogue.

    Files of known size and change time are not read again. Rows that an earlier ingest of the same folder put into a
    part stay in that part; new ones make new parts.

    Returns:
        The catalogue, this crawl included.

    Raises:
        CrawlError: If the folder or its manifest cannot be used.
    """
    source = crawl_source(crawl)
    refuse_nesting(store, source.address)
    with source.files() as files:
        listing = read_files(files, columns, source.address, settings.absent, settings.max_rejected_share)
    catalogue = load_catalogue(store, catalogue_name)
    known = next((crawl for crawl in catalogue.crawls if crawl.folder == source.address), None)
    name = known.name if known else _unique_name(source, catalogue)
    hashes = _hash_files(store, source, name, listing.entries, progress)
    videos = _rows(name, listing, hashes)
    old = [load_part(store, part) for part in known.parts if store.exists(part.file)] if known else []
    slices = _cut(videos, old, settings.part_size)
    parts: list[Part] = [make_part(store, rows) for rows in slices]
    notes = (*listing.notes, *_save_rejected(store, rejected_file(name, source.address, catalogue_name), listing))
    catalogue = catalogue.with_crawl(Crawl(name, source.address, tuple(parts), notes))
    save_catalogue(store, catalogue, catalogue_name)
    return catalogue


def refuse_nesting(store: Store, crawl: str) -> None:
    """Raise CrawlError if the store is inside the crawl."""
    out = str(store.local_path().resolve()) if store.is_local else store.url
    if f"{out}/".startswith(f"{crawl}/"):
        raise CrawlError(f"The output {out} is inside the crawl {crawl}. Choose an --out outside it.")


def _unique_name(source: CrawlSource, catalogue: Catalogue) -> str:
    taken = {crawl.name for crawl in catalogue.crawls}
    name = source.name or "crawl"
    return name if name not in taken else f"{name}-{digest(source.address, 6)}"


@dataclass(frozen=True)
class _Stat:
    """File metadata that shows whether a file has changed since it was hashed."""

    n_bytes: int
    mtime_ns: int
    sha256: str


def _hash_files(
    store: Store, source: CrawlSource, crawl: str, entries: Sequence[Entry], progress: Progress
) -> dict[str, _Stat]:
    """Return size, change time and SHA-256 by path. A file that cannot be read is left out."""
    name = f"videos/files-{crawl}.parquet"
    known = _load_stats(store, name)
    found: dict[str, _Stat] = {}
    stale: list[str] = []
    for path in dict.fromkeys(entry.path for entry in entries):
        stat = source.stat(path)
        if stat is None:
            continue
        old = known.get(path)
        if old and (old.n_bytes, old.mtime_ns) == stat:
            found[path] = old
        else:
            stale.append(path)
    if not stale and found == known:
        return found
    for done, (path, stat_and_hash) in enumerate(_hash_all(source, stale), start=1):
        if stat_and_hash:
            found[path] = stat_and_hash
        progress("hash files", done, len(stale))
        if done % _HASHES_BETWEEN_SAVES == 0:
            _save_stats(store, name, found)
    _save_stats(store, name, found)
    return found


def _hash_all(source: CrawlSource, paths: Sequence[str]) -> Iterable[tuple[str, _Stat | None]]:
    with ThreadPoolExecutor() as pool:
        yield from zip(paths, pool.map(partial(_hash, source), paths), strict=True)


def _hash(source: CrawlSource, path: str) -> _Stat | None:
    stat = source.stat(path)
    if stat is None:
        return None
    try:
        with source.open(path) as file:
            return _Stat(*stat, hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]
    except OSError:
        return None


def _load_stats(store: Store, name: str) -> dict[str, _Stat]:
    if not store.exists(name):
        return {}
    rows = read_table(store, name).select(_STATS.names).to_pylist()
    return {row.pop("path"): _Stat(**row) for row in rows}


def _save_stats(store: Store, name: str, stats: dict[str, _Stat]) -> None:
    rows = [{"path": path, **vars(stat)} for path, stat in sorted(stats.items())]
    store.write(name, encode(pa.Table.from_pylist(rows, _STATS)))


def predicted_catalogue(location: str) -> str:
    """Return the file of the catalogue of a predicted crawl or store."""
    source = crawl_source(location)
    return f"predicted/{source.name}-{digest(source.address, 8)}.json"


def rejected_file(crawl: str, address: str, catalogue: str) -> str:
    """Return the name of the file that lists the unusable manifest rows of a crawl."""
    return f"videos/rejected-{crawl if catalogue == TRAINING else f'{crawl}-{digest(address, 6)}'}.parquet"


def _save_rejected(store: Store, name: str, listing: Listing) -> Iterator[str]:
    """Write the unusable rows, replacing those of an earlier ingest. Yields a note, if there are any."""
    if not listing.rejected:
        if store.exists(name):
            store.remove(name)
        return
    content = encode(pa.Table.from_pylist([vars(row) for row in listing.rejected], _REJECTED))
    if not store.exists(name) or store.read(name) != content:
        store.write(name, content)
    yield f"All skipped rows are listed in {name} of the store."


def _rows(crawl: str, listing: Listing, stats: dict[str, _Stat]) -> list[Video]:
    first: dict[str, str] = {}
    videos = []
    for entry in listing.entries:
        stat = stats.get(entry.path)
        sha256 = stat.sha256 if stat else ""
        original = first.setdefault(sha256, entry.video_id) if sha256 else entry.video_id
        videos.append(
            Video(
                **vars(entry),
                crawl=crawl,
                sha256=sha256,
                n_bytes=stat.n_bytes if stat else 0,
                duplicate_of=original if original != entry.video_id else None,
            )
        )
    return videos


def _cut(videos: Sequence[Video], old_parts: Sequence[Sequence[Video]], size: int) -> list[list[Video]]:
    """Return slices of `size`. Videos of an old part stay together, new ones come after."""
    by_id = {video.video_id: video for video in videos}
    slices = [[by_id.pop(old.video_id) for old in part if old.video_id in by_id] for part in old_parts]
    new = list(by_id.values())
    slices += [new[i : i + size] for i in range(0, len(new), size)]
    return [rows for rows in slices if rows]
