"""Listing of a crawl's videos: from its manifest, else from yt-dlp's sidecars, else from its video files."""

import dataclasses
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nmcl.pipeline.crawl.cells import BadRow, composed
from nmcl.pipeline.crawl.columns import SIDECAR_FIELDS, Columns, ColumnSettings, Field, recognise, text_column
from nmcl.pipeline.crawl.files import VIDEO_SUFFIXES, CrawlFiles, examples, list_files, stem
from nmcl.pipeline.crawl.formats import FORMATS, BadRows, ManifestFile, RejectedRow, manifests_among, open_manifest
from nmcl.pipeline.crawl.rows import ABSENT, Reader, Row, default_id
from nmcl.pipeline.crawl.sidecars import SidecarReader
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.records import Entry
from nmcl.pipeline.text import counted, listed

__all__ = ["ABSENT", "ColumnSettings", "Listing", "read_column", "read_crawl", "read_files"]

_FORMS = f"manifest.({'|'.join(suffix[1:] for suffix in FORMATS)})"
MAX_REJECTED_SHARE = 0.01


@dataclass(frozen=True)
class Listing:
    """Videos that a crawl lists, whether or not their files exist.

    Every row of a manifest is an entry of its own, joined with that of another row, or rejected.
    """

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]
    """Messages for the user: what was read, how it was interpreted, what was skipped."""
    rejected: tuple[RejectedRow, ...] = ()
    """Manifest rows that cannot be used."""
    n_joined: int = 0
    """Number of manifest rows that add a caption to the video of another row."""
    columns: Mapping[Field, str] = dataclasses.field(default_factory=dict)
    """Field -> column of the manifest."""


def read_crawl(folder: Path, columns: ColumnSettings) -> Listing:
    """List the videos of a crawl folder.

    Entries come in the order of the manifest, else sorted by path. A row whose file is missing is listed too.

    Args:
        folder: The crawl; read recursively, and nothing outside it is read.
        columns: Names of manifest columns, if the usual names do not match.

    Raises:
        CrawlError: If there is no video, or the manifest or too many of its rows cannot be used.
    """
    return read_files(list_files(folder), columns, str(folder))


def read_files(
    files: CrawlFiles,
    columns: ColumnSettings,
    address: str,
    absent: Collection[str] = ABSENT,
    max_rejected_share: float = MAX_REJECTED_SHARE,
) -> Listing:
    """Run `read_crawl` on files that are already listed.

    Args:
        address: Address of the crawl, for messages.
        absent: Words that mean an empty cell, in any case.
        max_rejected_share: Share of the manifest's rows that may be unusable, if they are more than 20.
    """
    absent = frozenset(word.lower() for word in absent)
    manifest = _manifest_of(files)
    if manifest is not None:
        return _from_manifest(manifest, files, columns, absent, max_rejected_share)
    return _from_files(files, columns, address, absent)


def read_column(
    files: CrawlFiles, columns: ColumnSettings, source: Literal["title", "tags"], absent: Collection[str] = ABSENT
) -> dict[str, str] | None:
    """Return the titles or tags of a crawl's manifest by the path of the video.

    Rows are read as by `read_files`. Titles of several rows of one file are joined with line breaks, tags with commas.

    Returns:
        Texts by path; None if there is no manifest, or no such column in it.

    Raises:
        CrawlError: If the manifest cannot be used.
    """
    name = _manifest_of(files)
    if name is None:
        return None
    manifest = open_manifest(files.root / name, columns)
    column = text_column(source, manifest.columns, columns)
    if column is None:
        return None
    known = recognise(manifest.columns, columns, name, bool(files.sidecars))
    of = {field: found for field, found in known.of.items() if field not in ("text", "title") and found != column}
    chosen = replace(known, of={**of, "text": column})
    _refuse_types(manifest, chosen, name)
    reader = Reader(files, frozenset(word.lower() for word in absent))
    videos, _, _ = _videos(manifest, chosen, reader, BadRows(name, manifest.unit))
    between = "\n" if source == "title" else ", "
    texts = ((v.row.path, between.join(v.row.captions if v.captions is None else v.captions)) for v in videos)
    return {path: text for path, text in texts if text}


def _manifest_of(files: CrawlFiles) -> str | None:
    manifests = manifests_among(files.names)
    candidates = [name for name in manifests if stem(name).lower() == "manifest"] or manifests
    if len(candidates) > 1:
        raise CrawlError(
            f"{files.root} holds {len(candidates)} files that could be its manifest: "
            f"{listed(candidates)}. Keep one, or rename the right one to {_FORMS}."
        )
    return candidates[0] if candidates else None


def _from_files(files: CrawlFiles, columns: ColumnSettings, address: str, absent: Collection[str]) -> Listing:
    sidecars = SidecarReader(files, columns, absent)
    paths, not_named = sidecars.videos()
    left_out = counted(len(not_named), "sound file or animation", "sound files and animations")
    note = f"Skipped {left_out} that no manifest or sidecar names: {examples(not_named)}."
    more_notes = (*([note] if not_named else []), *files.notes())
    if not paths:
        raise CrawlError(
            f"No video found in {address}: looked for {_FORMS} there, and for files ending in "
            f"{' '.join(VIDEO_SUFFIXES)} there and in its subfolders. Put videos there, or give another folder. "
            f"{' '.join(more_notes)}"
        )
    beside = [sidecars.beside(path) for path in paths]
    sidecars.require_keys([field for field in SIDECAR_FIELDS if getattr(columns, field)])
    named = [s.video_id or default_id(path) for s, path in zip(beside, paths, strict=True)]
    ids, id_notes = _unique_ids(named, paths)
    entries = tuple(
        Entry(video_id, path, sidecar.description, sidecar.venue)
        for video_id, path, sidecar in zip(ids, paths, beside, strict=True)
    )
    notes = [
        f"No {_FORMS} in {files.root.name}: listed {counted(len(entries), 'video file')}, "
        f"{sidecars.n_read:,} of them with an .info.json sidecar."
    ]
    if columns != ColumnSettings() and not sidecars.n_read:
        notes.append("The columns named in the settings were not used: there is no manifest and no sidecar.")
    return Listing(
        entries,
        (
            *notes,
            *id_notes,
            *_odd_labels((entry.venue for entry in entries), _sidecar_labels(columns, files)),
            *sidecars.notes(),
            *_sidecars_alone(files, paths),
            *more_notes,
        ),
    )


def _sidecars_alone(files: CrawlFiles, videos: Sequence[str]) -> Iterator[str]:
    beside = {files.sidecar(path, ".info.json") for path in videos}
    alone = [path for path in files.sidecars if path.endswith(".info.json") and path not in beside]
    if alone:
        sidecars = counted(len(alone), "sidecar has no video beside it", "sidecars have no video beside them")
        yield f"{sidecars}: {examples(alone)}."


def _from_manifest(
    name: str, files: CrawlFiles, settings: ColumnSettings, absent: Collection[str], max_rejected_share: float
) -> Listing:
    manifest = open_manifest(files.root / name, settings)
    columns = recognise(manifest.columns, settings, name, bool(files.sidecars))
    _refuse_types(manifest, columns, name)
    bad = BadRows(name, manifest.unit)
    videos, n_joined, row_notes = _videos(manifest, columns, Reader(files, absent), bad)
    n_rows = len(videos) + n_joined + len(bad.rows)
    bad.check(n_rows, max_rejected_share)
    if not videos:
        raise CrawlError(f"{name} has a header but no rows. Add one row for each video.")
    entries = [video.entry() for video in videos]
    notes = [*columns.notes]
    if stem(name).lower() != "manifest":
        notes.insert(0, f"Using {name} as the manifest: it is the only file of that type in {files.root.name}.")
    if not {"text", "label"} <= columns.of.keys() or columns.elsewhere:
        sidecars = SidecarReader(files, settings, absent)
        entries = [_filled(entry, sidecars, columns, settings) for entry in entries]
        sidecars.require_keys(columns.elsewhere, columns=manifest.columns)
        notes += sidecars.notes()
    if "id" not in columns.of:
        ids, id_notes = _unique_ids([entry.video_id for entry in entries], [entry.path for entry in entries])
        entries = [replace(entry, video_id=i) for entry, i in zip(entries, ids, strict=True)]
        notes += id_notes
    label = columns.of.get("label")
    where = f"column {label!r} of {name}" if label else _sidecar_labels(settings, files)
    notes += [
        *bad.notes(n_rows),
        *row_notes,
        *_odd_labels((entry.venue for entry in entries), where),
        *_missing(videos, columns, name),
        *_not_named(videos, bad, files, name),
        *files.notes({video.row.path for video in videos}),
    ]
    return Listing(tuple(entries), tuple(notes), tuple(bad.rows), n_joined, columns.of)


def _refuse_types(manifest: ManifestFile, columns: Columns, name: str) -> None:
    """Raise CrawlError if a column is of a type that is never text."""
    for field, column in columns.of.items():
        kind = manifest.kind(column)
        if kind != "text" and not (kind == "list" and field in ("path", "text", "title")):
            found = "lists" if kind == "list" else kind
            raise CrawlError(
                f"{name}: column {column!r}, used as the {field}, contains {found}; expected text or numbers. Store it "
                f"as text, select another column with --set columns.{field}=NAME, or none with "
                f"--set columns.{field}=''."
            )


class _Video:
    """Video of the manifest from its first row, plus what later rows of the same file add."""

    __slots__ = ("captions", "label", "number", "row", "split")

    def __init__(self, number: int, row: Row) -> None:
        self.number = number
        self.row = row
        self.label = row.label
        self.split = row.split
        self.captions: dict[str, None] | None = None
        """Distinct captions of several rows, in order."""

    def conflict(self, row: Row) -> str | None:
        """Return why another row of the same file cannot be joined, or None."""
        for what, mine, other in (("label", self.label, row.label), ("split", self.split, row.split)):
            if None not in (mine, other) and mine != other:
                return f"the file {row.path!r} has the {what} {other!r} here and {mine!r}"
        return None

    def join(self, row: Row) -> None:
        """Add the content of another row of the same file."""
        if self.captions is None:
            self.captions = dict.fromkeys(self.row.captions)
        self.captions.update(dict.fromkeys(row.captions))
        self.label = self.label or row.label
        self.split = self.split or row.split

    def entry(self) -> Entry:
        row = self.row
        description = "\n".join(row.captions if self.captions is None else self.captions) or None
        return Entry(row.video_id or default_id(row.path), row.path, description, self.label, self.split)


def _videos(
    manifest: ManifestFile, columns: Columns, reader: Reader, bad: BadRows
) -> tuple[list[_Video], int, list[str]]:
    """Return the videos of the usable rows in order, the number of joined rows, and notes."""
    by_path: dict[str, _Video] = {}
    by_id: dict[str, _Video] = {}
    joined: dict[str, int] = {}
    other_ids: list[str] = []
    alike: list[tuple[int, Row]] = []
    fields = list(columns.of)

    def take(number: int, row: Row) -> None:
        first = by_path.get(row.path)
        namesake = by_id.get(row.video_id) if row.video_id else None
        problem = None
        if namesake is not None and namesake is not first:
            name = f"{columns.of['id']} {row.video_id!r}"
            problem = f"{name} is already on {manifest.unit} {namesake.number}; expected one row each"
        elif first is not None and (conflict := first.conflict(row)):
            problem = f"{conflict} on {manifest.unit} {first.number}; the first is used"
        if problem:
            bad.add(number, problem, row.video_id, row.named)
        elif first is None:
            by_path[row.path] = video = _Video(number, row)
            if row.video_id:
                by_id[row.video_id] = video
        else:
            first.join(row)
            joined[row.path] = joined.get(row.path, 0) + 1
            if row.video_id and row.video_id != first.row.video_id:
                other_ids.append(row.video_id)

    for number, cells in manifest.rows(list(columns.of.values()), bad):
        named = dict(zip(fields, cells, strict=True))
        try:
            row = reader.parse(named)
        except BadRow as error:
            bad.add(number, str(error), named.get("id"), named.get("path"))
        else:
            if row.is_alike:
                alike.append((number, row))
            else:
                take(number, row)
    for number, row in alike:  # last, so that they take no file that another row names exactly
        take(number, row)
    bad.rows.sort(key=lambda rejected: rejected.line)
    notes = []
    if alike:
        spelt = [f"{row.named} as {row.path}" for _, row in alike]
        notes.append(f"Found by names with different case or Unicode form: {len(alike):,}, such as {examples(spelt)}.")
    if joined:
        n_rows, n_files = sum(joined.values()), counted(len(joined), "video")
        ids = f" Their ids are ignored; the first id of each file is used: {examples(other_ids)}." if other_ids else ""
        notes.append(f"Joined {counted(n_rows, 'more row')} of {n_files} with the first of the same file.{ids}")
    return sorted(by_path.values(), key=lambda video: video.number), sum(joined.values()), notes


_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_JOINED = re.compile(r"[|;]|#\S+\s*#|^\[.*\]$|^\{.*\}$", re.DOTALL)


def _sidecar_labels(columns: ColumnSettings, files: CrawlFiles) -> str:
    """Return where labels come from that no manifest has."""
    return f"the key {columns.label!r} of the sidecars" if columns.label else f"the venues of {files.root.name}"


def _odd_labels(labels: Iterable[str | None], where: str) -> Iterator[str]:
    """Yield at most one note on labels that look like numbers or like several labels in one."""
    distinct = {label for label in labels if label}
    parts = {label: [part.strip() for part in re.split("[,/]", label)] for label in distinct}
    n_with = Counter(part for found in parts.values() for part in set(found))
    numbers = sorted(label for label in distinct if _NUMBER.fullmatch(label))
    joined = sorted(
        label
        for label, found in parts.items()
        if not _NUMBER.fullmatch(label)
        and (_JOINED.search(label) or (len(found) > 1 and all(n_with[part] > 1 for part in found)))
    )
    said = [
        f"{len(found):,} that {what}, such as {examples(found)}"
        for found, what in ((numbers, "look like numbers"), (joined, "look like several in one"))
        if found
    ]
    if said:
        yield f"Labels in {where}: {' and '.join(said)}. Each is treated as one class; if that is wrong, change them."


def _filled(entry: Entry, sidecars: SidecarReader, columns: Columns, settings: ColumnSettings) -> Entry:
    """Fill in sidecar values for fields that have no manifest column."""
    sidecar = sidecars.beside(entry.path)
    return replace(
        entry,
        video_id=(sidecar.video_id if "id" in columns.elsewhere else None) or entry.video_id,
        description=entry.description if "text" in columns.of else sidecar.description,
        venue=entry.venue if "label" in columns.of else sidecar.venue,
    )


def _missing(rows: Sequence[_Video], columns: Columns, name: str) -> Iterator[str]:
    missing = [video.row.path for video in rows if not video.row.found]
    if len(missing) == len(rows):
        field: Field = "path" if "path" in columns.of else "id"
        raise CrawlError(
            f"{name}: none of the {len(rows):,} files named in column {columns.of[field]!r} is in the crawl "
            f"folder: {examples(missing, 2)}. Paths must be relative to that folder. If another column contains "
            f"them: --set columns.path=NAME."
        )
    if missing:
        files = counted(len(missing), "file that does not exist", "files that do not exist")
        yield f"{name} names {files}: {examples(missing)}."


def _not_named(rows: Sequence[_Video], bad: BadRows, files: CrawlFiles, name: str) -> Iterator[str]:
    named = {*(video.row.path for video in rows), *(row.path for row in bad.rows)}
    others = [path for path in files.videos if path not in named]
    if others:
        yield f"Skipped {counted(len(others), 'video file')} that {name} does not name: {examples(others)}."


def _unique_ids(proposed: Sequence[str], paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return unique ids for distinct paths: as proposed if unique, else the path, with its suffix if necessary.

    Returns:
        The ids and, if some had to differ, a note.
    """
    choices = [(i, composed(posixpath.splitext(p)[0]), p) for i, p in zip(proposed, paths, strict=True)]
    level = [0] * len(choices)
    while True:
        ids = [choice[n] for choice, n in zip(choices, level, strict=True)]
        count = Counter(ids)
        clashing = [i for i, video_id in enumerate(ids) if count[video_id] > 1 and level[i] < 2]
        if not clashing:  # paths are distinct, so the last level never clashes
            break
        for i in clashing:
            level[i] += 1
    changed = [path for path, n in zip(paths, level, strict=True) if n]
    if not changed:
        return ids, []
    one, several = "video shares its id with another and is", "videos share their id with another and are"
    return ids, [f"{counted(len(changed), one, several)} identified by path: {examples(changed)}."]
