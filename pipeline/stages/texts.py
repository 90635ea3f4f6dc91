"""Texts stage: parts of texts beside the descriptions, one artifact per source. Extractors read them from there."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from nmcl.pipeline.crawl.texts import ReadTexts
from nmcl.pipeline.records import FoundText, Line
from nmcl.pipeline.storage.artifacts import (
    Artifact,
    add_digest,
    digest_files,
    read_recipe,
    recipe_file,
    write_with_digest,
)
from nmcl.pipeline.storage.catalogue import Part, load_part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, read_table

_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("lines", pa.list_(pa.string())),
        pa.field("lines_s", pa.list_(pa.float32())),
        pa.field("file", pa.string()),
        pa.field("remark", pa.string()),
    ]
)


@dataclass(frozen=True)
class TextsReport:
    """What was read for some parts."""

    n_videos: int
    n_found: int
    """Number of videos with a text."""
    remarks: tuple[str, ...]
    """Why there is no text, of each video that has one that cannot be read."""


def read_part(store: Store, artifact: Artifact, part: Part, read: ReadTexts) -> TextsReport:
    """Read the texts of a part, and write them if they are missing or differ from those that were read before.

    If they differ, features and completed vectors that were made from them are removed first, to be made again when
    needed. Finished runs keep their models, scores and predictions.
    """
    videos = load_part(store, part)
    found = read([video.path for video in videos])
    name = artifact.part(part.key)
    if store.exists(name) and not read_table(store, name).equals(_table([v.video_id for v in videos], found)):
        remove_made_from(store, artifact, part)
    write_texts(store, artifact, part, [video.video_id for video in videos], found)
    remarks = tuple(text.remark for text in found if text.remark)
    return TextsReport(len(found), sum(text.text is not None for text in found), remarks)


def write_texts(
    store: Store, artifact: Artifact, part: Part, video_ids: Sequence[str], found: Sequence[FoundText]
) -> None:
    """Write a part of texts, unless the same texts are there."""
    table, name = _table(video_ids, found), artifact.part(part.key)
    if store.exists(name) and read_table(store, name).equals(table):
        add_digest(store, name)
    else:
        artifact.note_recipe(store)
        write_with_digest(store, name, encode(table))


def _table(video_ids: Sequence[str], found: Sequence[FoundText]) -> pa.Table:
    rows = [
        {
            "video_id": video_id,
            "text": one.text,
            "lines": None if one.lines is None else [line.text for line in one.lines],
            "lines_s": None if one.lines is None else [line.time_s for line in one.lines],
            "file": one.file,
            "remark": one.remark,
        }
        for video_id, one in zip(video_ids, found, strict=True)
    ]
    return pa.Table.from_pylist(rows, _SCHEMA)


def load_texts(store: Store, artifact: Artifact, part: Part) -> list[str | None]:
    """Return the texts of a part, in the order of its videos."""
    texts: list[str | None] = read_table(store, artifact.part(part.key), part.n_videos).column("text").to_pylist()
    return texts


def load_found(store: Store, artifact: Artifact, part: Part) -> list[FoundText]:
    """Return the rows of a part of texts, in the order of its videos."""
    table = read_table(store, artifact.part(part.key), part.n_videos)
    return [
        FoundText(row["text"], _lines(row["lines"], row["lines_s"]), row["file"], row["remark"])
        for row in table.select([field.name for field in _SCHEMA]).to_pylist()
    ]


def _lines(texts: Sequence[str] | None, times_s: Sequence[float] | None) -> tuple[Line, ...] | None:
    return tuple(map(Line, times_s, texts)) if texts is not None and times_s is not None else None


def remove_made_from(store: Store, artifact: Artifact, part: Part) -> None:
    """Remove what was made from a part of texts: its features, and completed vectors."""
    for folder in [*folders_made_from(store, artifact.recipe), *_folders(store, "completed")]:
        name = f"{folder}/part-{part.key}.parquet"
        for file in (name, *digest_files(name)):
            store.remove(file)


def folders_made_from(store: Store, recipe: object) -> list[str]:
    """Return the folders of features that are made from texts with this recipe."""

    def texts_of(folder: str) -> object:
        return read_recipe(store, folder).get("texts") if store.exists(recipe_file(store, folder)) else None

    return [folder for folder in _folders(store, "features") if texts_of(folder) == recipe]


def _folders(store: Store, kind: str) -> list[str]:
    return [f"{kind}/{name}" for name in store.list(kind)]
