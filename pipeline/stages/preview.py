"""Preview of a crawl: what an ingest would find, without writing anything."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nmcl.pipeline.crawl.files import SUBTITLE_SUFFIXES
from nmcl.pipeline.crawl.formats import N_REJECTED_ALWAYS, RejectedRow
from nmcl.pipeline.crawl.manifest import ColumnSettings, read_files
from nmcl.pipeline.crawl.source import CrawlSource, VideoRequest, contents_of, crawl_source
from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import Decoder, MediaSettings
from nmcl.pipeline.needs import Frames, Selection, Sound, TimedFrame
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Entry, Split, Video
from nmcl.pipeline.stages.ingest import IngestSettings
from nmcl.pipeline.stages.splits import SplitSettings, assign
from nmcl.pipeline.storage.artifacts import digest

MINIMA = (1, 2, 5, 10, 20, 50)
"""Values of `split.min_venue_videos` that are tried."""


@dataclass(frozen=True)
class Kept:
    """What one value of `split.min_venue_videos` keeps of the labelled videos."""

    min_venue_videos: int
    classes: int
    """Number of labels with enough videos."""
    videos: int
    """Number of their videos, copies included."""
    splits: Mapping[Split, int]


@dataclass(frozen=True)
class Sample:
    """Some files of the crawl, decoded."""

    videos: int
    failed: Mapping[str, int]
    """Kind of failure -> number of files with neither picture nor sound."""
    with_picture: int
    with_sound: int
    seconds: float
    """Total duration of those that decode, each at most `media.max_seconds`."""

    @property
    def mean_seconds(self) -> float | None:
        """Mean duration of a video; None if none decodes."""
        n = self.videos - sum(self.failed.values())
        return self.seconds / n if n else None


@dataclass(frozen=True)
class Preview:
    """What an ingest would find in a crawl."""

    crawl: str
    """Address."""
    videos: int
    columns: Mapping[str, str]
    """Field -> column of the manifest; empty without a manifest."""
    described: int
    labelled: int
    with_split: int
    labels: Mapping[str, int]
    """Label -> number of videos, the most frequent first."""
    missing: int
    """Videos whose file is not there."""
    duplicates: int
    """Videos with the same bytes as an earlier one."""
    rejected: tuple[RejectedRow, ...]
    """Manifest rows that cannot be used."""
    is_refused: bool
    """Whether so many rows are unusable that an ingest would refuse the crawl: `ingest.max_rejected_share`."""
    joined: int
    """Manifest rows that add a caption to the video of another row."""
    sidecars: int
    subtitles: int
    """Number of subtitle files."""
    n_bytes: int
    """Size of all videos."""
    sample: Sample
    kept: tuple[Kept, ...]
    notes: tuple[str, ...]


def preview(
    crawl: str,
    columns: ColumnSettings,
    settings: IngestSettings,
    split: SplitSettings,
    media: MediaSettings,
    n_sample: int = 20,
    progress: Progress = silent,
) -> Preview:
    """Read a crawl as an ingest would, and decode a random sample of its files.

    Only files of the same size are read to find duplicates.

    Args:
        n_sample: Number of files to decode.

    Raises:
        CrawlError: If the folder or its manifest cannot be used.
    """
    source = crawl_source(crawl)
    with source.files() as files:
        listing = read_files(files, columns, source.address, settings.absent, max_rejected_share=1.0)
        n_subtitles = sum(name.lower().endswith(SUBTITLE_SUFFIXES) for name in files.names)
        n_sidecars = len(files.sidecars)
    sizes = {entry.path: stat[0] for entry in listing.entries if (stat := source.stat(entry.path))}
    videos = _videos(source, listing.entries, sizes, progress)
    labels = Counter(video.venue for video in videos if video.venue)
    contents = [video.sha256 for video in videos if video.sha256]
    n_rows = len(listing.entries) + listing.n_joined + len(listing.rejected)
    return Preview(
        crawl=source.address,
        videos=len(videos),
        columns={str(name): column for name, column in listing.columns.items()},
        described=sum(video.description is not None for video in videos),
        labelled=sum(labels.values()),
        with_split=sum(video.split is not None for video in videos),
        labels=dict(labels.most_common()),
        missing=len(videos) - len(contents),
        duplicates=len(contents) - len({*contents}),
        rejected=listing.rejected,
        is_refused=len(listing.rejected) > max(N_REJECTED_ALWAYS, settings.max_rejected_share * n_rows),
        joined=listing.n_joined,
        sidecars=n_sidecars,
        subtitles=n_subtitles,
        n_bytes=sum(sizes.values()),
        sample=_sample(source, [v for v in videos if v.sha256], media, n_sample, progress),
        kept=tuple(_kept(videos, replace(split, min_venue_videos=n)) for n in MINIMA) if labels else (),
        notes=listing.notes,
    )


def _videos(source: CrawlSource, entries: Sequence[Entry], sizes: Mapping[str, int], progress: Progress) -> list[Video]:
    """Return catalogue rows. Files that share their size with another are hashed, others get a hash of their path."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for path, size in sizes.items():
        by_size[size].append(path)
    alike = [path for paths in by_size.values() if len(paths) > 1 for path in paths]
    hashes = {path: digest(path, 64) for path in sizes}
    for done, path in enumerate(alike, start=1):
        hashes[path] = _sha256(source, path)
        progress("compare files", done, len(alike))
    first: dict[str, str] = {}
    videos = []
    for entry in entries:
        sha256 = hashes.get(entry.path, "")
        original = first.setdefault(sha256, entry.video_id) if sha256 else entry.video_id
        copy = original if original != entry.video_id else None
        videos.append(
            Video(
                **vars(entry),
                crawl=source.name,
                sha256=sha256,
                n_bytes=sizes.get(entry.path, 0),
                duplicate_of=copy,
            )
        )
    return videos


def _sha256(source: CrawlSource, path: str) -> str:
    """Return the hash of a file; empty if it cannot be read."""
    try:
        with source.open(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError:
        return ""


def _kept(videos: Sequence[Video], settings: SplitSettings) -> Kept:
    found = assign(videos, settings)
    return Kept(settings.min_venue_videos, len(found.classes), sum(found.counts.values()), found.counts)


@dataclass(frozen=True)
class _LastFrame:
    """Selects the last frame, whose time is about the duration of the clip."""

    def start(self) -> Selection:
        return _Last()


class _Last:
    def add(self, frame: TimedFrame) -> None:
        self._frame = frame

    def chosen(self) -> Sequence[TimedFrame]:
        return [self._frame]


@dataclass(frozen=True)
class _OnePixel:
    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return picture[:1, :1]


def _sample(source: CrawlSource, videos: list[Video], media: MediaSettings, n: int, progress: Progress) -> Sample:
    chosen = random.Random(0).sample(videos, min(n, len(videos)))
    frames, sound = Frames(_LastFrame(), _OnePixel()), Sound()
    requests = [
        VideoRequest(source, replace(video, sha256=_sha256(source, video.path)), (frames, sound)) for video in chosen
    ]
    failed: Counter[str] = Counter()
    n_pictures, n_sounds, seconds = 0, 0, 0.0
    if not requests:
        return Sample(0, {}, 0, 0, 0.0)
    with Decoder(media) as decoder:
        for done, content in enumerate(contents_of(requests, decoder), start=1):
            progress("decode a sample", done, len(requests))
            if isinstance(content, ClipError):
                failed[content.kind] += 1
                continue
            times, waveform = content.clip(frames).frame_times_s, content.clip(sound).waveform
            n_pictures += times is not None
            n_sounds += waveform is not None
            last_s = float(times[-1]) if times is not None else 0.0
            seconds += max(last_s, len(waveform) / sound.rate_hz if waveform is not None else 0.0)
    return Sample(len(requests), dict(failed), n_pictures, n_sounds, round(seconds, 1))
