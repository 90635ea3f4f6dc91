"""Fit: an extractor learns from the videos that are in neither validation nor test, and from no others."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.crawl_source import clips_of, crawl_source
from pipeline.media import Decoder, FrameSelector
from pipeline.progress import Progress, silent
from pipeline.records import Clip, State, Video

if TYPE_CHECKING:
    from extractors.base import Extractor


def sample(videos: Sequence[Video], n_videos: int, seed: int) -> list[Video]:
    """At most `n_videos`, chosen by a keyed hash of their content: the order of the catalogue does not matter.

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
    frames: FrameSelector,
    decoder: Decoder,
    progress: Progress = silent,
) -> State:
    """What `extractor` learns from `videos`. Files that do not decode are skipped.

    Args:
        folders: where each crawl lies, by its name.
    """
    clips = _clips(extractor, videos, folders, frames, decoder)
    return extractor.fit(_counted(clips, f"read for {extractor.modality}", len(videos), progress), progress)


def _counted(clips: Iterable[Clip], stage: str, total: int, progress: Progress) -> Iterator[Clip]:
    for done, clip in enumerate(clips, start=1):
        progress(stage, done, total)
        yield clip


def _clips(
    extractor: "Extractor",
    videos: Sequence[Video],
    folders: Mapping[str, str],
    frames: FrameSelector,
    decoder: Decoder,
) -> Iterator[Clip]:
    if extractor.need == "description":
        yield from (Clip(description=video.description) for video in videos)
        return
    selector, waveform = frames if extractor.need == "frames" else None, extractor.need == "waveform"
    sources = {crawl: crawl_source(folder) for crawl, folder in folders.items()}
    wanted = [(sources[video.crawl], video.path) for video in videos]
    yield from (clip for clip in clips_of(wanted, selector, waveform, decoder) if isinstance(clip, Clip))
