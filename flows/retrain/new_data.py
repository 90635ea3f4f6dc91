"""What crawls bring that a champion has not seen, and which of them a challenger learns from."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.catalogue import (
    Catalogue,
    Crawl,
    Part,
    load_catalogue,
    load_part,
    make_part,
)
from nmcl.pipeline.storage.store import Store


@dataclass(frozen=True)
class News:
    """What a crawl brings that the champion has not seen."""

    crawl: str
    n_videos: int
    """Videos of new content."""
    n_labelled: int
    n_known: int
    """All others: the champion's crawls have their content, or a crawl that came before."""
    n_renamed: int
    """Of those, in another crawl under another name."""
    n_relabelled: int
    """Of those, with another venue, or in the same crawl with none any more: the earlier one counts."""


def joining(store: Store, named: Sequence[str | Path] | None) -> list[Crawl]:
    """Crawls that a challenger learns from beside the champion's, in the order they came.

    Args:
        named: folders; None: all that the store knows, but for those that were found doubtful as they are now.
    """
    known, found = load_catalogue(store).crawls, standings(store)
    folders = {crawl_source(folder).address for folder in named or ()}

    def joins(crawl: Crawl) -> bool:
        standing = found.get(crawl.name)
        if crawl.folder in folders:
            return True
        if standing is not None and standing.content == content(crawl):
            return standing.is_waiting
        return named is None

    return [crawl for crawl in known if joins(crawl)]


@dataclass(frozen=True)
class Standing:
    """What the last retraining with a crawl found of it."""

    content: str
    """Digest of the crawl as it was then."""
    is_waiting: bool
    """Whether it was merely not enough to be better."""


def standings(store: Store) -> dict[str, Standing]:
    """By crawl; without those that no retraining has seen."""
    found: list[tuple[str, dict[str, Standing]]] = []
    for folder in [f"{kind}/{name}" for kind in ("runs", "drift") for name in store.list(kind)]:
        for file in ("drift.json", "comparison.json"):
            if not store.exists(f"{folder}/{file}"):
                continue
            note = store.read_json(f"{folder}/{file}")
            verdict = note.get("verdict")
            waits = verdict is not None and not verdict["promoted"]
            if verdict is None and not note["stopped"]:
                continue
            doubted = verdict["doubted"] if verdict else list(note["crawls"])
            of_run = {c: Standing(d, waits and c not in doubted) for c, d in note["crawls"].items()}
            found.append((note["when"], of_run))
    return {name: standing for _, of_run in sorted(found, key=lambda f: f[0]) for name, standing in of_run.items()}


def content(crawl: Crawl) -> str:
    """Digest of a crawl as it is now."""
    return digest([part.rows for part in crawl.parts])


def with_news(store: Store, base: Catalogue, crawls: Sequence[Crawl]) -> tuple[Catalogue, list[News]]:
    """A catalogue with what is new of some crawls, and how much that is. Content of other crawls is left out."""
    before = _Before.of(store, base)
    catalogue, news = base, []
    for crawl in crawls:
        parts, known, fresh = _unknown_parts(store, crawl, before)
        news.append(_news(crawl, known, fresh, before))
        before.add(fresh)
        if parts:
            catalogue = catalogue.with_crawl(replace(crawl, parts=tuple(parts)))
    return catalogue, news


@dataclass(frozen=True)
class _Before:
    """What is known already."""

    parts: Set[Part]
    rows: dict[tuple[str, str, str], Video]
    """By crawl, name and content."""
    first: dict[str, Video]
    """By content, without files that could not be read."""

    @classmethod
    def of(cls, store: Store, base: Catalogue) -> "_Before":
        before = cls({part for _, part in base.parts()}, {}, {})
        before.add(base.videos(store))
        return before

    def add(self, videos: Iterable[Video]) -> None:
        for video in videos:
            self.rows.setdefault((video.crawl, video.video_id, video.sha256), video)
            if video.sha256:
                self.first.setdefault(video.sha256, video)

    def find(self, video: Video) -> Video | None:
        """The same video, else one of the same content."""
        return self.rows.get((video.crawl, video.video_id, video.sha256)) or self.first.get(video.sha256)

    def labelled(self, video: Video) -> Video:
        """The video with its earlier label, where there is one."""
        earlier = self.find(video)
        return replace(video, venue=earlier.venue) if earlier and earlier.venue else video


def _unknown_parts(store: Store, crawl: Crawl, before: _Before) -> tuple[list[Part], list[Video], list[Video]]:
    """The parts without content of other crawls and with the earlier labels, and two kinds of videos.

    Those that were left out or get their earlier label back, and those of content that nobody has.
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
            parts.append(make_part(store, rows) if rows != videos else part)
    return parts, known, fresh


def _news(crawl: Crawl, known: Sequence[Video], fresh: Sequence[Video], before: _Before) -> News:
    pairs = [(video, before.find(video)) for video in known]
    elsewhere = [(v, earlier) for v, earlier in pairs if earlier and earlier.crawl != crawl.name]
    return News(
        crawl=crawl.name,
        n_videos=len(fresh),
        n_labelled=sum(v.venue is not None for v in fresh),
        n_known=sum(part.n_videos for part in crawl.parts) - len(fresh),
        n_renamed=sum(v.video_id != earlier.video_id for v, earlier in elsewhere),
        n_relabelled=sum(_is_relabelled(video, earlier) for video, earlier in pairs),
    )


def _is_relabelled(video: Video, earlier: Video | None) -> bool:
    """A copy without a label in another crawl contradicts nobody."""
    if earlier is None or earlier.venue is None or video.venue == earlier.venue:
        return False
    return video.venue is not None or earlier.crawl == video.crawl
