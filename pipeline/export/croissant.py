"""A data set described in Croissant, the JSON-LD of ML Commons: one Parquet file, its description and a card."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmcl.pipeline.export import parquet
from nmcl.pipeline.export.card import UNKNOWN, card
from nmcl.pipeline.export.record import Export, Written
from nmcl.pipeline.export.rows import TEXT, observed_name

DESCRIPTION, TABLE = "croissant.json", "features.parquet"
_CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
_TERMS = ("arrayShape", "column", "extract", "field", "fileObject", "isArray", "key", "recordSet", "source")
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: f"cr:{name}" for name in _TERMS},
}
"""The terms of version 1.1 that are used here."""
_MEANING: Mapping[str, tuple[str | list[str], str]] = {
    "video_id": ("sc:Text", "Id of the video, unique in this data set."),
    "crawl": ("sc:Text", "Crawl that the video is from."),
    "path": ("sc:Text", "Path of the video file in its crawl."),
    "sha256": ("sc:Text", "SHA-256 of the video file."),
    "split": (["sc:Text", "cr:Split"], "train, validation or test; null for a video in none."),
    "label": (["sc:Text", "cr:Label"], "Venue; null for an unlabelled video."),
    "description": ("sc:Text", "Description of the video."),
}
_INSTEAD = {"completed": "completed", "zero": "zeros", "nan": "null"}


def write(export: Export, folder: Path) -> Written:
    """Write `features.parquet`, its description `croissant.json`, and the card `README.md`."""
    written = parquet.write(export, folder / TABLE)
    (folder / DESCRIPTION).write_text(
        f"{json.dumps(_described(export, folder / TABLE), indent=1, ensure_ascii=False)}\n", encoding="utf-8"
    )
    (folder / "README.md").write_text(card(export), encoding="utf-8")
    return Written(written.contents, (f"The licence of the data is {UNKNOWN!r} in {DESCRIPTION}: state yours.",))


def _described(export: Export, table: Path) -> dict[str, Any]:
    with table.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    sets = ", ".join(f"{feature.name} ({feature.modality}, {feature.dim} numbers)" for feature in export.features)
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CONFORMS_TO,
        "name": "features",
        "description": f"Features of {len(export):,} videos, extracted by nmcl {version('nmcl')}: {sets}. "
        "The recipe of every value is in recipe.json.",
        "license": UNKNOWN,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": TABLE,
                "name": TABLE,
                "description": "One row per video.",
                "contentUrl": TABLE,
                "contentSize": f"{table.stat().st_size} B",
                "encodingFormat": "application/x-parquet",  # the only name of Parquet that mlcroissant reads
                "sha256": sha256,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "videos",
                "name": "videos",
                "description": "The videos, in the order of the catalogue.",
                "key": {"@id": "videos/video_id"},
                "field": [*_fields(export)],
            }
        ],
    }


def _fields(export: Export) -> Iterator[dict[str, Any]]:
    for name in TEXT:
        yield _field(name, *_MEANING[name])
    for feature in export.features:
        what = (
            f"Vector of the feature set {feature.name} ({feature.modality}), which "
            f"{int(feature.observed.sum()):,} of {len(export):,} videos have; {_INSTEAD[export.missing]} elsewhere."
        )
        yield _field(feature.name, "sc:Float", what, isArray=True, arrayShape=str(feature.dim))
    for feature in export.features:
        name = observed_name(feature.name)
        yield _field(name, "sc:Boolean", f"Whether the video has a vector of the feature set {feature.name}.")


def _field(name: str, kind: str | list[str], what: str, **more: object) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"videos/{name}",
        "name": name,
        "description": what,
        "dataType": kind,
        **more,
        "source": {"fileObject": {"@id": TABLE}, "extract": {"column": name}},
    }
