"""Retry: forget what was made of the parts that hold failed files, so that the next extraction makes it anew."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.artifacts import Artifact
from pipeline.catalogue import Catalogue, Crawl, Part, load_part
from pipeline.crawl_source import crawl_source
from pipeline.errors import ClipError
from pipeline.extract import load_failures
from pipeline.store import Store
from pipeline.words import counted


@dataclass(frozen=True)
class Forgotten:
    """What becomes of the files that had failed."""

    n_failed: int
    """Files that the next extraction tries again."""
    notes: tuple[str, ...]
    """Why others are left as they are."""


def forget_failed(store: Store, catalogue: Catalogue, failures: Artifact) -> Forgotten:
    """Remove features, completed vectors and failures of each part with failed files, whatever their settings.

    A part whose other files are gone from the crawl is left alone: their vectors could not be made again.
    """
    n_failed, notes = 0, []
    made = [f"{kind}/{folder}" for kind in ("features", "completed") for folder in store.list(kind)]
    for crawl, part, failed in _with_failures(store, catalogue, failures):
        if n_gone := _n_gone(store, crawl, part, failed):
            notes.append(
                f"{counted(len(failed), 'failed file is', 'failed files are')} not tried again: "
                f"{counted(n_gone, 'other file is', 'other files are')} of part {part.key} no longer in "
                f"{crawl.folder}, and the vectors would be lost."
            )
            continue
        # The failures go last: a process killed before that leaves a part that the same command finds again.
        for folder in [*made, failures.folder]:
            store.remove(f"{folder}/part-{part.key}.parquet")
        n_failed += len(failed)
    return Forgotten(n_failed, tuple(notes))


def _with_failures(
    store: Store, catalogue: Catalogue, failures: Artifact
) -> Iterator[tuple[Crawl, Part, Mapping[str, ClipError]]]:
    for crawl, part in catalogue.parts():
        if store.exists(failures.part(part.key)) and (failed := load_failures(store, failures, part)):
            yield crawl, part, failed


def _n_gone(store: Store, crawl: Crawl, part: Part, failed: Mapping[str, ClipError]) -> int:
    """Files of a part that were decoded and are no longer there."""
    source = crawl_source(crawl.folder)
    decoded = [video for video in load_part(store, part) if video.video_id not in failed]
    return sum(source.stat(video.path) is None for video in decoded)
