"""Extraction stage: computes every modality's features of one catalogue part. Each file is decoded once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from nmcl.pipeline.crawl.source import CrawlSource, VideoRequest, contents_of, crawl_source, require_root
from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.extractor import TextReader
from nmcl.pipeline.media import Decoder
from nmcl.pipeline.needs import DESCRIPTION, OCR, Frames, Need, Sound, Stream, Text
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Content, FoundText, Video
from nmcl.pipeline.stages.texts import load_found, load_texts, write_texts
from nmcl.pipeline.stages.thumbnails import Images, PartOfThumbnails, Thumbnails, load_thumbnails, write_thumbnails
from nmcl.pipeline.stages.vectors import Feature, PartOfVectors
from nmcl.pipeline.stopwatch import Stopwatch
from nmcl.pipeline.storage.artifacts import (
    Artifact,
    add_digest,
    digest_files,
    read_recipe,
    recipe_file,
)
from nmcl.pipeline.storage.catalogue import Part, load_part
from nmcl.pipeline.storage.failures import (
    INTERNAL,
    Failure,
    Failures,
    Retry,
    failures_of,
    load_failures,
    refuse_bug,
    tried_again,
    write_failures,
)
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import (
    read_table,
)

CLIPS_AT_A_TIME = 32
"""Clips per call of an extractor: enough frames for full batches, few enough to bound memory."""

CODE_VERSION = 2
"""Version of the code, part of the address of all features; raise it when the rows of a part are assembled
differently."""


@dataclass(frozen=True)
class Job:
    """Everything to extract, whatever the part."""

    features: tuple[Feature, ...]
    failures: Artifact
    texts: Mapping[Text, Artifact] = field(default_factory=dict)
    """Texts that features need besides descriptions. Those on screen are made here, all others must exist."""
    reader: TextReader | None = None
    """Reads the text on screen, if `texts` has it."""
    thumbnails: Thumbnails | None = None
    """Small pictures that are kept of each video; None for none."""
    retry: Retry | None = None
    """Which recorded failures are retried; None: no failures."""


@dataclass(frozen=True)
class Receipt:
    """Result of a part. Small: it is all that an engine transfers."""

    part: str
    n_videos: int
    n_failed: int
    """Number of videos that gave neither picture nor sound."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step: `decoding` (waiting for decoded clips), each feature set, `writing`."""


def extract_part(
    store: Store, crawl: str, folder: str, part: Part, job: Job, decoder: Decoder, progress: Progress = silent
) -> Receipt:
    """Compute what is missing of a part's texts on screen, features and failures; retry what `job.retry` selects.

    A file known to fail is not decoded again without `job.retry`, so that features extracted later agree with these.
    The process may be killed at any moment: a row that is null because of a failure always has that failure on record.
    New failures are written before the features, and resolved ones are removed after them.

    Args:
        crawl: Its name, for messages.
        folder: Location of the crawl.

    Raises:
        CrawlError: If the whole crawl has disappeared.
        InternalError: If nmcl's own code fails on every file.
    """
    first_time = not store.exists(job.failures.part(part.key))
    recorded: Failures = {} if first_time else load_failures(store, job.failures, part)
    retried = job.retry.among(recorded) if job.retry else {}
    missing = [f for f in job.features if first_time or not store.exists(f.artifact.part(part.key))]
    own = [*([job.texts[Text(OCR)]] if job.reader else []), *(feature.artifact for feature in job.features)]
    is_to_read = job.reader is not None and (first_time or not store.exists(own[0].part(part.key)))
    new_needs = [f.extractor.need for f in missing] + ([job.reader.need] if job.reader and is_to_read else [])
    is_seen, is_heard = (any(need.stream == stream for need in new_needs) for stream in (Frames.stream, Sound.stream))
    has_new_images = bool(job.thumbnails and job.thumbnails.is_to_make(store, part, is_seen, first_time))
    if not (missing or is_to_read or first_time or retried or has_new_images):
        for artifact in (*own, job.failures):
            artifact.note_recipe(store)
            add_digest(store, artifact.part(part.key))
        return Receipt(part.key, part.n_videos, n_failed(recorded))
    videos = load_part(store, part)
    of_features = tuple(f.extractor.need for f in (job.features if retried else missing))
    needs: tuple[Need, ...] = of_features
    if job.reader and (is_to_read or retried):
        needs = (job.reader.need, *of_features)
    images = _images(store, part, job.thumbnails, has_new_images, is_heard or bool(retried))
    if images:
        of_images = images.needs(with_sound=any(f.extractor.need.stream == Sound.stream for f in job.features))
        needs = (*of_images, *needs)
        new_needs += of_images if has_new_images else []
    streams = [_streams(video, new_needs, recorded, retried) for video in videos]
    source = crawl_source(folder)
    if any(streams):
        require_root(crawl, source)
    tables = [
        PartOfVectors(f, videos, None if f in missing else read_table(store, f.artifact.part(part.key), len(videos)))
        for f in job.features
    ]
    results: dict[str, tuple[Failure, ...]] = {}
    bugs: list[tuple[Video, Content | ClipError]] = []
    stopwatch = Stopwatch()
    texts = _texts(store, part, videos, [need for need in of_features if isinstance(need, Text)], job)
    contents = _contents(videos, streams, needs, source, decoder, recorded, results, bugs, texts)
    contents = stopwatch.each("decoding", contents)
    screen = None
    if job.reader and job.reader.need in needs:
        screen = _ScreenTexts(job.reader, len(videos), None if is_to_read else load_found(store, own[0], part))
        contents = screen.filled(contents, stopwatch, of_features)
    if images:
        contents = images.filled(contents, of_features)
    numbered = enumerate(contents)
    while chunk := list(islice(numbered, CLIPS_AT_A_TIME)):
        for table in tables:
            rows = chunk if table.is_new else [(i, content) for i, content in chunk if table.stream in streams[i]]
            with stopwatch.on(table.name):
                table.add(rows)
        progress("extract", chunk[-1][0] + 1, part.n_videos)
    refuse_bug(bugs, len(results))
    if any(failure.kind == "missing" for of_video in results.values() for failure in of_video):
        require_root(crawl, source)
    final = _merged(videos, streams, recorded, results)
    with stopwatch.on("writing"):
        before = {v.video_id: _both(recorded, final, v.video_id) for v in videos}
        if first_time or {k: f for k, f in before.items() if f} != recorded:
            write_failures(store, job.failures, part, videos, before)
        if _passed(recorded, final):
            decoded = [video for video in videos if video.video_id not in recorded]
            _remove_stale(store, part, job.failures, own, decoded, source)
        if screen:
            write_texts(store, own[0], part, [video.video_id for video in videos], screen.found)
        if job.thumbnails and images and (images.is_changed or has_new_images):
            write_thumbnails(store, job.thumbnails.artifact, part, [video.video_id for video in videos], images.rows)
        for table in tables:
            table.write(store, part)
        if before != final:
            write_failures(store, job.failures, part, videos, final)
    return Receipt(part.key, part.n_videos, n_failed(final), seconds=stopwatch.seconds)


def _images(
    store: Store, part: Part, thumbnails: Thumbnails | None, is_new: bool, is_to_add: bool
) -> PartOfThumbnails | None:
    """Return the thumbnails of a part that are made now; what is new of some videos only if the others have theirs."""
    if thumbnails is None or not (is_new or (is_to_add and thumbnails.has_part(store, part))):
        return None
    rows = [Images()] * part.n_videos if is_new else load_thumbnails(store, thumbnails.artifact.folder, part)
    return PartOfThumbnails(thumbnails.encoder, rows)


def n_failed(failures: Failures) -> int:
    """Return the number of videos that gave neither picture nor sound."""
    return sum(any(failure.modality is None for failure in of_video) for of_video in failures.values())


def _passed(before: Failures, after: Failures) -> bool:
    """Return whether anything that had failed now succeeds."""
    return any(_lost(before[video_id]) - _lost(after.get(video_id, ())) for video_id in before)


def _lost(failures: Sequence[Failure]) -> set[Stream]:
    return {stream for failure in failures for stream in failure.streams}


def _streams(
    video: Video, needs: Sequence[Need], recorded: Failures, retried: Mapping[str, Sequence[Failure]]
) -> frozenset[Stream]:
    """Return what must be decoded of a video: what new results need and is not known to fail, and what is retried."""
    new = {need.stream for need in needs if need.stream}
    known, again = _lost(recorded.get(video.video_id, ())), _lost(retried.get(video.video_id, ()))
    return frozenset((new - known) | again)


def _texts(
    store: Store, part: Part, videos: Sequence[Video], needs: Sequence[Text], job: Job
) -> dict[Text, Sequence[str | None]]:
    """Return the texts of a part by need; those on screen only if they were read before."""
    found: dict[Text, Sequence[str | None]] = {}
    for need in needs:
        if need.source == DESCRIPTION:
            found[need] = [video.description for video in videos]
        elif need.source != OCR or store.exists(job.texts[need].part(part.key)):
            found[need] = load_texts(store, job.texts[need], part)
    return found


def _contents(
    videos: Sequence[Video],
    streams: Sequence[frozenset[Stream]],
    needs: tuple[Need, ...],
    source: CrawlSource,
    decoder: Decoder,
    recorded: Failures,
    results: dict[str, tuple[Failure, ...]],
    bugs: list[tuple[Video, Content | ClipError]],
    texts: Mapping[Text, Sequence[str | None]],
) -> Iterator[Content]:
    """Yield one content per video, in order, with whatever could be decoded; failures go into `results` and `bugs`.

    A content has the same problems whether its file was decoded now or is known to fail.
    """
    requests = [
        VideoRequest(source, video, tuple(need for need in needs if need.stream in wanted))
        for video, wanted in zip(videos, streams, strict=True)
        if wanted
    ]
    decoded = contents_of(requests, decoder)
    for i, (video, wanted) in enumerate(zip(videos, streams, strict=True)):
        content = next(decoded) if wanted else Content()
        if wanted:
            results[video.video_id] = failures_of(content, wanted)
            if any(failure.kind == INTERNAL for failure in results[video.video_id]):
                bugs.append((video, content))
        before = recorded.get(video.video_id, ())
        if isinstance(content, ClipError) or any(f.modality is None for f in results.get(video.video_id, before)):
            content = Content()
        known = {s: ClipError(f.kind, f.detail) for f in before if f.modality for s in f.streams - wanted}
        own_texts = {need: of_part[i] for need, of_part in texts.items()}
        yield replace(content, problems={**known, **content.problems}, texts=own_texts)


def _merged(
    videos: Sequence[Video], streams: Sequence[frozenset[Stream]], recorded: Failures, results: Failures
) -> dict[str, tuple[Failure, ...]]:
    """Return the recorded failures merged with the new ones."""
    merged = {}
    for video, wanted in zip(videos, streams, strict=True):
        before = recorded.get(video.video_id, ())
        merged[video.video_id] = tried_again(before, wanted, results[video.video_id]) if wanted else tuple(before)
    return merged


def _both(recorded: Failures, final: Failures, video_id: str) -> tuple[Failure, ...]:
    """Return the failures recorded while features are written: new ones, and those about to be resolved."""
    before, after = recorded.get(video_id, ()), final[video_id]
    covered = {failure.modality for failure in before}
    return (*before, *(failure for failure in after if failure.modality not in covered))


def _remove_stale(
    store: Store,
    part: Part,
    failures: Artifact,
    own: Sequence[Artifact],
    decoded: Sequence[Video],
    source: CrawlSource,
) -> None:
    """Remove a part from the texts on screen and features of other settings, and from completed vectors.

    They are made again when needed. Features whose files are gone from the crawl are kept, because they could not be
    made again. Finished runs keep their models, scores and predictions.

    Args:
        own: Texts and features that the caller updates itself.
        decoded: Videos of the part that did not fail.
    """
    stale = [f"completed/{folder}" for folder in store.list("completed")]
    is_whole = all(source.stat(video.path) is not None for video in decoded)
    folders = [f"{kind}/{folder}" for kind in ("texts", "features") for folder in store.list(kind)]
    for name in folders if is_whole else ():
        recipe = read_recipe(store, name) if store.exists(recipe_file(store, name)) else {}
        decoding = recipe.get("decoding") or recipe.get("texts", {}).get("decoding")
        if name not in {a.folder for a in own} and decoding == failures.recipe["decoding"]:
            stale.append(name)
    for folder in stale:
        name = f"{folder}/part-{part.key}.parquet"
        for file in (name, *digest_files(name)):
            store.remove(file)


class _ScreenTexts:
    """Texts on screen of a part: all new, or as read before, with those that could not be read then."""

    def __init__(self, reader: TextReader, n_videos: int, read_before: list[FoundText] | None) -> None:
        self._reader = reader
        self.found = read_before or [FoundText()] * n_videos

    def filled(self, contents: Iterator[Content], stopwatch: Stopwatch, others: Sequence[Need]) -> Iterator[Content]:
        """Yield the contents with their texts on screen, one by one, without the large pictures these are read from.

        Args:
            others: What else the contents are needed for.
        """
        need = self._reader.need
        for i, content in enumerate(contents):
            if self.found[i].lines is None and need in content.pictures:
                with stopwatch.on("ocr"):
                    self.found[i] = self._reader.read(content.clip(need))
            elif self.found[i].lines is None and (problem := content.problems.get(need.stream)):
                self.found[i] = FoundText(remark=problem.detail)
            pictures = {n: p for n, p in content.pictures.items() if n != need or n in others}
            yield replace(content, pictures=pictures, texts={**content.texts, Text(OCR): self.found[i].text})
