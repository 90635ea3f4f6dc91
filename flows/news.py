"""What crawls bring that a champion has not seen, and which of them a challenger learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.artifacts import digest
from pipeline.catalogue import Catalogue, Crawl, Part, load_catalogue, load_part, make_part
from pipeline.crawl_source import crawl_source
from pipeline.records import Video
from pipeline.store import Store


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
    """Of those, in another crawl with another venue: the earlier one counts."""


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
    for name in store.list("runs"):
        for file in ("drift.json", "comparison.json"):
            if not store.exists(f"runs/{name}/{file}"):
                continue
            note = store.read_json(f"runs/{name}/{file}")
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
    first: dict[str, Video] = {}
    for video in base.videos(store):
        if video.sha256:
            first.setdefault(video.sha256, video)
    old_parts = {(crawl.name, part.key) for crawl, part in base.parts()}
    catalogue, news = base, []
    for crawl in crawls:
        parts, known, fresh = _unknown_parts(store, crawl, first, old_parts)
        news.append(_news(crawl, known, fresh, first))
        for video in fresh:
            if video.sha256:
                first.setdefault(video.sha256, video)
        if parts:
            catalogue = catalogue.with_crawl(replace(crawl, parts=tuple(parts)))
    return catalogue, news


def _unknown_parts(
    store: Store, crawl: Crawl, first: Mapping[str, Video], old_parts: set[tuple[str, str]]
) -> tuple[list[Part], list[Video], list[Video]]:
    """The parts without content of other crawls, the videos left out, and those of content that nobody has."""
    parts: list[Part] = []
    known: list[Video] = []
    fresh: list[Video] = []
    for part in crawl.parts:
        if (crawl.name, part.key) in old_parts:
            parts.append(part)
            continue
        videos = load_part(store, part)
        left_out = [v for v in videos if v.sha256 in first and first[v.sha256].crawl != crawl.name]
        kept = [v for v in videos if v not in left_out] if left_out else videos
        known += left_out
        fresh += [v for v in kept if v.sha256 not in first]
        if kept:
            parts.append(make_part(store, kept) if left_out else part)
    return parts, known, fresh


def _news(crawl: Crawl, known: Sequence[Video], fresh: Sequence[Video], first: Mapping[str, Video]) -> News:
    labelled = [v for v in known if v.venue and first[v.sha256].venue]
    return News(
        crawl=crawl.name,
        n_videos=len(fresh),
        n_labelled=sum(v.venue is not None for v in fresh),
        n_known=sum(part.n_videos for part in crawl.parts) - len(fresh),
        n_renamed=sum(v.video_id != first[v.sha256].video_id for v in known),
        n_relabelled=sum(v.venue != first[v.sha256].venue for v in labelled),
    )
