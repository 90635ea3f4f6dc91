"""Reading of the texts that feature sets need besides descriptions, from the files of crawls."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from nmcl.flows import console
from nmcl.flows.run.extractors import Extractors
from nmcl.pipeline.crawl.source import crawl_source, require_root
from nmcl.pipeline.crawl.texts import CrawlText, text_reader
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import FoundText
from nmcl.pipeline.stages.texts import TextsReport, read_part, write_texts
from nmcl.pipeline.storage.artifacts import DIGEST_SUFFIX, Artifact, files_of
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, Part, load_part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import counted, listed

_WHERE: dict[CrawlText, str] = {
    "title": "a title: its manifest has no such column, and no .info.json beside a video names one. Name the column "
    "with --set columns.title=NAME",
    "tags": "tags: its manifest has no such column, and no .info.json beside a video names any. Name the column with "
    "--set columns.tags=NAME",
    "subtitles": "subtitles: there is no file such as NAME.en.vtt or NAME.srt beside NAME.mp4 in a language of "
    "subtitles.languages. Put them there (yt-dlp --write-subs --write-auto-subs --skip-download)",
}


def read_missing(store: Store, extractors: Extractors, catalogue: Catalogue, progress: Progress = silent) -> int:
    """Read the texts of all parts that have none yet. Returns the number of parts read.

    A crawl without any is noted in one sentence, and so are files that cannot be read: their videos have no text.

    Raises:
        CrawlError: If a crawl is no longer there, or its manifest cannot be used.
    """
    n_read = 0
    for source, artifact in _of_crawls(extractors):
        made = files_of(store, artifact.folder)
        lacking = [
            (crawl, parts)
            for crawl in catalogue.crawls
            if (parts := [part for part in crawl.parts if not _names(part) <= made])
        ]
        for crawl, parts in lacking:
            _note(source, crawl, list(_read(store, extractors, source, artifact, crawl, parts, progress)))
            n_read += len(parts)
    return n_read


def read_again(store: Store, extractors: Extractors, catalogue: Catalogue, crawl: str | Path) -> None:
    """Read the texts of a crawl that were read before. Features of texts that have changed are made again when needed.

    Titles, tags and subtitles are no part of the catalogue, so that ingesting the crawl again does not notice them.
    """
    address = crawl_source(crawl).address
    for source, artifact in _of_crawls(extractors):
        made = files_of(store, artifact.folder)
        for known in (c for c in catalogue.crawls if c.folder == address):
            if parts := [part for part in known.parts if _names(part) & made]:
                list(_read(store, extractors, source, artifact, known, parts))


def leave_out(store: Store, extractors: Extractors, catalogue: Catalogue) -> None:
    """Write that there are no titles, tags or subtitles, for videos of a catalogue that are no crawl."""
    for _, artifact in _of_crawls(extractors):
        for _, part in catalogue.parts():
            ids = [video.video_id for video in load_part(store, part)]
            write_texts(store, artifact, part, ids, [FoundText()] * len(ids))


def _of_crawls(extractors: Extractors) -> Iterator[tuple[CrawlText, Artifact]]:
    texts = extractors.texts
    yield from ((source, texts[source]) for source in get_args(CrawlText) if source in texts)


def _names(part: Part) -> set[str]:
    return {f"part-{part.key}.parquet{suffix}" for suffix in ("", DIGEST_SUFFIX)}


def _read(
    store: Store,
    extractors: Extractors,
    source: CrawlText,
    artifact: Artifact,
    crawl: Crawl,
    parts: Sequence[Part],
    progress: Progress = silent,
) -> Iterator[TextsReport]:
    settings = extractors.settings
    location = crawl_source(crawl.folder)
    require_root(crawl.name, location)
    total, done = sum(part.n_videos for part in parts), 0
    with text_reader(location, source, settings.columns, settings.subtitles, settings.ingest.absent) as read:
        for part in parts:
            yield read_part(store, artifact, part, read)
            done += part.n_videos
            progress(f"read {source}", done, total)


def _note(source: CrawlText, crawl: Crawl, reports: Sequence[TextsReport]) -> None:
    remarks = [remark for report in reports for remark in report.remarks]
    if remarks:
        videos = counted(len(remarks), "video has", "videos have")
        console.note(
            f"{videos} no subtitles, because their files in {crawl.name} cannot be read: {listed(remarks, 3)}."
        )
    elif not any(report.n_found for report in reports):
        console.note(f"No video of {crawl.name} has {_WHERE[source]}, and run `nmcl run` on the crawl again.")
