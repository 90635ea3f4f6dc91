"""New videos that crawls add to a champion's data, and the selection of crawls for training a challenger."""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, Part, load_catalogue, load_part, make_part
from nmcl.pipeline.storage.run_files import CrawlDiff
from nmcl.pipeline.storage.runs import Run, all_runs
from nmcl.pipeline.storage.store import Store


def select_crawls(store: Store, named: Sequence[str | Path] | None) -> list[Crawl]:
    """Return the crawls that a challenger is trained on besides the champion's, in order of arrival.

    Args:
        named: folders; None: all crawls that the store knows, except those whose current content was found doubtful.
    """
    known, found = load_catalogue(store).crawls, last_verdicts(store)
    folders = {crawl_source(folder).address for folder in named or ()}

    def joins(crawl: Crawl) -> bool:
        verdict = found.get(crawl.name)
        if crawl.folder in folders:
            return True
        if verdict is not None and verdict.content == content(crawl):
            return verdict.is_waiting
        return named is None

    return [crawl for crawl in known if joins(crawl)]


@dataclass(frozen=True)
class LastVerdict:
    """Result of the last retraining with a crawl."""

    content: str
    """Digest of the crawl at that time."""
    is_waiting: bool
    """Whether the crawl was not doubted, and the challenger merely was not better."""


def last_verdicts(store: Store) -> dict[str, LastVerdict]:
    """Return the last verdict by crawl, without crawls that were in no retraining."""
    found: list[tuple[str, dict[str, LastVerdict]]] = []
    for run in [*all_runs(store), *(Run(store, f"drift/{name}") for name in store.list("drift"))]:
        if (drift := run.drift) and drift.stopped:
            found.append((drift.when, {name: LastVerdict(d, False) for name, d in drift.crawls.items()}))
        if note := run.comparison:
            waiting = set() if note.verdict.promoted else note.crawls.keys() - set(note.verdict.doubted)
            found.append((note.when, {name: LastVerdict(d, name in waiting) for name, d in note.crawls.items()}))
    return {name: verdict for _, of_run in sorted(found, key=lambda f: f[0]) for name, verdict in of_run.items()}


def content(crawl: Crawl) -> str:
    """Return the digest of the current content of a crawl."""
    return digest([part.rows for part in crawl.parts])


def add_new(
    store: Store, base: Catalogue, crawls: Sequence[Crawl], make: Callable[[Store, Sequence[Video]], Part] = make_part
) -> tuple[Catalogue, list[CrawlDiff]]:
    """Add the new videos of some crawls to a catalogue, and count them. Content of other crawls is left out.

    Args:
        make: Returns the part of some rows; the default also writes it.
    """
    before = _Known.of(store, base)
    catalogue, diffs = base, []
    for crawl in crawls:
        parts, known, fresh = _unknown_parts(store, crawl, before, make)
        diffs.append(_diff(crawl, known, fresh, before))
        before.add(fresh)
        if parts:
            catalogue = catalogue.with_crawl(replace(crawl, parts=tuple(parts)))
    return catalogue, diffs


@dataclass(frozen=True)
class _Known:
    """Videos that are already known."""

    parts: Set[Part]
    rows: dict[tuple[str, str, str], Video]
    """Videos by crawl, name and content."""
    first: dict[str, Video]
    """First video of each content, without files that could not be read."""

    @classmethod
    def of(cls, store: Store, base: Catalogue) -> "_Known":
        before = cls({part for _, part in base.parts()}, {}, {})
        before.add(base.videos(store))
        return before

    def add(self, videos: Iterable[Video]) -> None:
        for video in videos:
            self.rows.setdefault((video.crawl, video.video_id, video.sha256), video)
            if video.sha256:
                self.first.setdefault(video.sha256, video)

    def find(self, video: Video) -> Video | None:
        """Return the same video, else one of the same content."""
        return self.rows.get((video.crawl, video.video_id, video.sha256)) or self.first.get(video.sha256)

    def labelled(self, video: Video) -> Video:
        """Return the video with its earlier label, if it has one."""
        earlier = self.find(video)
        return replace(video, venue=earlier.venue) if earlier and earlier.venue else video


def _unknown_parts(
    store: Store, crawl: Crawl, before: _Known, make: Callable[[Store, Sequence[Video]], Part]
) -> tuple[list[Part], list[Video], list[Video]]:
    """Return the new parts of a crawl, its known videos and its new videos.

    The parts have no content of other crawls, and keep earlier labels. The known videos are those that were left out or
    get their earlier label back. The new videos are those of unknown content.
    """
    parts: list[Part] = []
    known: list[Video] = []
    fresh: list[Video] = []
    for part in crawl.parts:
        if part in before.parts:
            parts.append(part)
            continue
        videos = load_part(store, part)
        found = [before.find(video) for video in videos]
        kept = [v for v, earlier in zip(videos, found, strict=True) if not earlier or earlier.crawl == crawl.name]
        rows = [before.labelled(video) for video in kept]
        known += [video for video in videos if video not in rows]
        fresh += [video for video, earlier in zip(videos, found, strict=True) if not earlier]
        if rows:
            parts.append(make(store, rows) if rows != videos else part)
    return parts, known, fresh


def _diff(crawl: Crawl, known: Sequence[Video], fresh: Sequence[Video], before: _Known) -> CrawlDiff:
    pairs = [(video, before.find(video)) for video in known]
    elsewhere = [(v, earlier) for v, earlier in pairs if earlier and earlier.crawl != crawl.name]
    return CrawlDiff(
        crawl=crawl.name,
        n_videos=len(fresh),
        n_labelled=sum(v.venue is not None for v in fresh),
        n_known=sum(part.n_videos for part in crawl.parts) - len(fresh),
        n_renamed=sum(v.video_id != earlier.video_id for v, earlier in elsewhere),
        n_relabelled=sum(_is_relabelled(video, earlier) for video, earlier in pairs),
    )


def _is_relabelled(video: Video, earlier: Video | None) -> bool:
    """Whether a video contradicts its earlier label. An unlabelled copy in another crawl does not."""
    if earlier is None or earlier.venue is None or video.venue == earlier.venue:
        return False
    return video.venue is not None or earlier.crawl == video.crawl
