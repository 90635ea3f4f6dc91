"""What a crawl folder lists: from its manifest, else from yt-dlp's sidecars, else from its bare files."""

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.columns import Columns, ColumnSettings, Field, recognise
from pipeline.crawl_files import VIDEO_SUFFIXES, CrawlFiles, examples, list_files, stem
from pipeline.errors import CrawlError
from pipeline.manifest_files import BadRow, BadRows, ManifestFile, composed, open_manifest
from pipeline.manifest_rows import Row, understand
from pipeline.records import Entry
from pipeline.sidecars import SidecarReader
from pipeline.words import counted, listed

__all__ = ["ColumnSettings", "Listing", "read_crawl", "read_files"]

_FORMS = "manifest.(csv|tsv|jsonl|parquet)"


@dataclass(frozen=True)
class Listing:
    """The videos a crawl lists, whether or not their files are there."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    """What the user should be told: what was read, how it was understood, what was left out."""


def read_crawl(folder: Path, columns: ColumnSettings) -> Listing:
    """Lists the videos of a crawl folder.

    Entries come in the order of the manifest, else sorted by path. A row whose file is missing is listed too.

    Args:
        folder: the crawl; folders in it are looked through, nothing outside it is read.
        columns: names of manifest columns, where the usual names do not tell.

    Raises:
        CrawlError: there is no video, or the manifest or some of its rows cannot be used.
    """
    return read_files(list_files(folder), columns, str(folder))


def read_files(files: CrawlFiles, columns: ColumnSettings, address: str) -> Listing:
    """`read_crawl` of files that are listed already. Args: address: of the crawl, for messages."""
    manifest = _manifest_of(files)
    if manifest is not None:
        return _from_manifest(manifest, files, columns)
    if not files.videos:
        raise CrawlError(
            f"No video found in {address}: looked for {_FORMS} there, and in it and its folders "
            f"for files ending in {' '.join(VIDEO_SUFFIXES)}. Put videos there, or give another folder. "
            f"{' '.join(files.notes)}"
        )
    return _from_files(files, columns)


def _manifest_of(files: CrawlFiles) -> str | None:
    named = [name for name in files.manifests if stem(name).lower() == "manifest"]
    candidates = named or list(files.manifests)
    if len(candidates) > 1:
        raise CrawlError(
            f"{files.root} holds {len(candidates)} files that could be its manifest: "
            f"{listed(candidates)}. Keep one, or name the right one {_FORMS}."
        )
    return candidates[0] if candidates else None


def _from_files(files: CrawlFiles, columns: ColumnSettings) -> Listing:
    sidecars = SidecarReader(files)
    beside = [sidecars.beside(path) for path in files.videos]
    named = [s.video_id or composed(stem(path)) for s, path in zip(beside, files.videos, strict=True)]
    ids, id_notes = _unique_ids(named, files.videos)
    entries = tuple(
        Entry(video_id, path, sidecar.description, sidecar.venue)
        for video_id, path, sidecar in zip(ids, files.videos, beside, strict=True)
    )
    notes = [
        f"No {_FORMS} in {files.root.name}: listed {counted(len(entries), 'video file')}, "
        f"{sidecars.n_read:,} of them with an .info.json sidecar."
    ]
    if columns != ColumnSettings():
        notes.append("The columns named in the settings were not used, as there is no manifest.")
    return Listing(entries, (*notes, *id_notes, *sidecars.notes(), *_sidecars_alone(files), *files.notes))


def _sidecars_alone(files: CrawlFiles) -> Iterator[str]:
    beside = {files.sidecar(path, ".info.json") for path in files.videos}
    alone = [path for path in files.sidecars if path.endswith(".info.json") and path not in beside]
    if alone:
        sidecars = counted(len(alone), "sidecar has no video beside it", "sidecars have no video beside them")
        yield f"{sidecars}: {examples(alone)}."


def _from_manifest(name: str, files: CrawlFiles, settings: ColumnSettings) -> Listing:
    manifest = open_manifest(files.root / name, settings)
    columns = recognise(manifest.columns, settings, name)
    rows = _rows(manifest, columns, files, name)
    if not rows:
        raise CrawlError(f"{name} has a header but no rows. Add one row for each video.")
    entries = [row.entry for row in rows]
    notes = [*columns.notes]
    if stem(name).lower() != "manifest":
        notes.insert(0, f"Took {name} as the manifest, the only file of such a type in {files.root.name}.")
    if "id" not in columns.of:
        ids, id_notes = _unique_ids([entry.video_id for entry in entries], [entry.path for entry in entries])
        entries = [replace(entry, video_id=i) for entry, i in zip(entries, ids, strict=True)]
        notes += id_notes
    if not {"text", "label"} <= columns.of.keys():
        sidecars = SidecarReader(files)
        entries = [_filled(entry, sidecars, columns) for entry in entries]
        notes += sidecars.notes()
    notes += [
        *_missing(rows, columns, name),
        *_not_named(rows, files, name),
        *_conflicts(entries),
        *files.notes,
    ]
    return Listing(tuple(entries), tuple(notes))


def _rows(manifest: ManifestFile, columns: Columns, files: CrawlFiles, name: str) -> list[Row]:
    bad = BadRows(name, manifest.unit)
    first_with: dict[str, int] = {}
    rows = []
    fields = list(columns.of)
    for number, cells in manifest.rows(list(columns.of.values()), bad):
        try:
            row = understand(dict(zip(fields, cells, strict=True)), files)
            # Without ids the path stands for one: forest/1.mp4 and sea/1.mp4 are two videos.
            identity = row.entry.video_id if "id" in columns.of else row.entry.path
            if (first := first_with.setdefault(identity, number)) != number:
                what = columns.of.get("id", "video")
                raise BadRow(f"{what} {identity!r} is already on {manifest.unit} {first}; expected one row each")
        except BadRow as error:
            bad.add(number, str(error))
        else:
            rows.append(row)
    bad.raise_if_any()
    return rows


def _filled(entry: Entry, sidecars: SidecarReader, columns: Columns) -> Entry:
    """The entry, with what the sidecar says where the manifest has no column for it."""
    sidecar = sidecars.beside(entry.path)
    return replace(
        entry,
        description=entry.description if "text" in columns.of else sidecar.description,
        venue=entry.venue if "label" in columns.of else sidecar.venue,
    )


def _missing(rows: Sequence[Row], columns: Columns, name: str) -> Iterator[str]:
    missing = [row.entry.path for row in rows if not row.found]
    if len(missing) == len(rows):
        field: Field = "path" if "path" in columns.of else "id"
        raise CrawlError(
            f"{name}: none of the {len(rows):,} files named in column {columns.of[field]!r} is in the crawl "
            f"folder: {examples(missing, 2)}. Paths must be relative to that folder; if another column holds "
            f"them: --set columns.path=NAME."
        )
    if missing:
        files = counted(len(missing), "file that is not there", "files that are not there")
        yield f"{name} names {files}: {examples(missing)}."


def _not_named(rows: Sequence[Row], files: CrawlFiles, name: str) -> Iterator[str]:
    named = {row.entry.path for row in rows}
    others = [path for path in files.videos if path not in named]
    if others:
        yield f"Left out {counted(len(others), 'video file')} that {name} does not name: {examples(others)}."


def _conflicts(entries: Sequence[Entry]) -> Iterator[str]:
    """Notes on files that several rows name."""
    first: dict[str, Entry] = {}
    repeated, venues, texts = set(), set(), set()
    for entry in entries:
        other = first.setdefault(entry.path, entry)
        if other is not entry:
            repeated.add(entry.path)
            if None not in (entry.venue, other.venue) and entry.venue != other.venue:
                venues.add(entry.path)
            if entry.description != other.description:
                texts.add(entry.path)
    if repeated:
        yield (
            f"{counted(len(repeated), 'file is', 'files are')} named by several rows, {len(venues):,} with different "
            f"venues and {len(texts):,} with different descriptions: {examples(sorted(repeated))}."
        )


def _unique_ids(proposed: Sequence[str], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Ids for distinct paths: as proposed where that is unique, else the path, with its suffix if it must.

    Returns:
        The ids and, where some had to differ, a note.
    """
    choices = [(i, composed(posixpath.splitext(p)[0]), p) for i, p in zip(proposed, paths, strict=True)]
    level = [0] * len(choices)
    while True:
        ids = [choice[n] for choice, n in zip(choices, level, strict=True)]
        count = Counter(ids)
        clashing = [i for i, video_id in enumerate(ids) if count[video_id] > 1 and level[i] < 2]
        if not clashing:  # paths are distinct, so no two can clash at the last level
            break
        for i in clashing:
            level[i] += 1
    changed = [path for path, n in zip(paths, level, strict=True) if n]
    if not changed:
        return ids, []
    one, several = "video shares its id with another and goes", "videos share their id with another and go"
    return ids, [f"{counted(len(changed), one, several)} by path: {examples(changed)}."]
