"""Fit stage: extractors are fitted only to videos that are in neither validation nor test."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nmcl.pipeline.crawl.source import VideoRequest, contents_of, crawl_source, require_root
from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.libraries import MADE_WITH, versions_of
from nmcl.pipeline.media import Decoder
from nmcl.pipeline.needs import Frames, Sound, Stream, Text
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Clip, Content, State, Video
from nmcl.pipeline.storage.failures import INTERNAL, Failure, failures_of, refuse_bug

if TYPE_CHECKING:
    from nmcl.pipeline.extractor import Extractor


@dataclass(frozen=True)
class Fitted:
    """Result of fitting an extractor."""

    state: State
    left_out: tuple[tuple[Video, Failure], ...]
    """Training videos skipped because of a failure that may be temporary."""


def sample(videos: Sequence[Video], n_videos: int, seed: int) -> list[Video]:
    """Return at most `n_videos`, selected by a keyed hash of their content, independent of the catalogue's order.

    Re-uploads count once.
    """
    distinct = {video.sha256: video for video in reversed(videos) if video.sha256}

    def rank(sha256: str) -> bytes:
        return hashlib.sha256(f"{seed} {sha256}".encode()).digest()

    return [distinct[sha256] for sha256 in sorted(distinct, key=rank)[:n_videos]]


def fit_extractor(
    extractor: "Extractor",
    videos: Sequence[Video],
    folders: Mapping[str, str],
    decoder: Decoder,
    progress: Progress = silent,
    texts: Sequence[str | None] | None = None,
) -> Fitted:
    """Fit `extractor` to `videos`. Files that do not decode are skipped.

    A failure that may be temporary is retried once immediately, so that the order of the clips stays the same.

    Args:
        folders: Location of each crawl, by its name.
        texts: Text of each video, for an extractor that needs one; None: the descriptions.

    Raises:
        CrawlError: If a whole crawl has disappeared.
        InternalError: If nmcl's own code fails on every file.
    """
    left_out: list[tuple[Video, Failure]] = []
    if isinstance(extractor.need, Text):
        clips = iter([Clip(text=text) for text in ([v.description for v in videos] if texts is None else texts)])
    else:
        clips = _clips(extractor.need, videos, folders, decoder, left_out)
    state = extractor.fit(_counted(clips, f"read for {extractor.modality}", len(videos), progress), progress)
    info = {MADE_WITH: versions_of(extractor, extractor.need)} | state.info
    return Fitted(replace(state, info=info), tuple(left_out))


def _counted(clips: Iterable[Clip], stage: str, total: int, progress: Progress) -> Iterator[Clip]:
    for done, clip in enumerate(clips, start=1):
        progress(stage, done, total)
        yield clip


def _clips(
    need: Frames | Sound,
    videos: Sequence[Video],
    folders: Mapping[str, str],
    decoder: Decoder,
    left_out: list[tuple[Video, Failure]],
) -> Iterator[Clip]:
    """Yield one clip per video, empty if nothing can be decoded."""
    streams = frozenset[Stream]({need.stream})
    sources = {crawl: crawl_source(folder) for crawl, folder in folders.items()}
    for crawl in dict.fromkeys(video.crawl for video in videos):
        require_root(crawl, sources[crawl])
    requests = [VideoRequest(sources[video.crawl], video, (need,)) for video in videos]
    bugs: list[tuple[Video, Content | ClipError]] = []
    for item, first in zip(requests, contents_of(requests, decoder), strict=True):
        content, failures = first, failures_of(first, streams)
        if any(failure.is_transient for failure in failures):
            content = next(contents_of([item], decoder))
            failures = failures_of(content, streams)
        if any(failure.kind == "missing" for failure in failures):
            require_root(item.video.crawl, item.source)
        left_out += [(item.video, failure) for failure in failures if failure.is_transient]
        if any(failure.kind == INTERNAL for failure in failures):
            bugs.append((item.video, content))
        yield Clip() if isinstance(content, ClipError) else content.clip(need)
    refuse_bug(bugs, len(videos))
