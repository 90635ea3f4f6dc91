"""Seeded splits of labelled videos by label, which never put the same content into two splits."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from annotated_types import Ge, Gt, Lt

from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.errors import CrawlError, SettingsError
from nmcl.pipeline.records import SPLITS, Split, Video
from nmcl.pipeline.text import counted, examples, listed

Label = TypeVar("Label", str, int)
SetAside = Literal["unreadable", "rare_venue", "conflicting_venue"]
"""Reason why a labelled video is in no split: its file could not be read, its label has too few videos, or the same
bytes were first labelled otherwise."""


@dataclass(frozen=True)
class SplitSettings:
    """Frozen shares of the splits, which sum to 1, and which labels to keep. The defaults are the paper's."""

    train: Annotated[float, Gt(0), Lt(1), Reference(0.49)] = 0.49
    """Share of training videos. The three shares must sum to 1."""
    validation: Annotated[float, Gt(0), Lt(1), Reference(0.21)] = 0.21
    """Share of validation videos."""
    test: Annotated[float, Gt(0), Lt(1), Reference(0.30)] = 0.30
    """Share of test videos."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of the assignment, and of the sample that the extractors are fitted on."""
    min_venue_videos: Annotated[int, Ge(1), Reference(50)] = 50
    """Labels with fewer videos of distinct content are set aside: they are neither trained nor tested."""

    def __post_init__(self) -> None:
        shares = (self.train, self.validation, self.test)
        if not (all(share > 0 for share in shares) and abs(sum(shares) - 1) <= 1e-6):
            raise SettingsError(
                f"split.train, split.validation and split.test are {shares}, which sum to {sum(shares):g}; "
                f"expected three shares above 0 that sum to 1, such as 0.49, 0.21 and 0.30."
            )

    def shares(self, splits: Collection[Split]) -> dict[Split, float]:
        """Return the shares of some of the splits, scaled to sum to 1."""
        given = {"train": self.train, "validation": self.validation, "test": self.test}
        total = sum(given[split] for split in splits)
        return {split: given[split] / total for split in SPLITS if split in splits}


@dataclass(frozen=True)
class Assignment:
    """Assignment of one video. Videos without a label have neither split nor reason."""

    split: Split | None = None
    set_aside: SetAside | None = None


@dataclass(frozen=True)
class Splits:
    """Assignments of all videos. A video with a split is labelled with one of `classes`."""

    assignments: tuple[Assignment, ...]
    """Assignments of the videos, in the order they were given."""
    classes: tuple[str, ...]
    """Labels with enough videos, sorted."""
    set_aside: dict[str, int]
    """Number of distinct videos of each label that has too few."""
    counts: dict[Split, int]
    """Number of videos in each split, copies included."""
    notes: tuple[str, ...]
    """Messages for the user."""
    settings: SplitSettings


@dataclass(frozen=True)
class _Content:
    """All videos with the same bytes."""

    sha256: str
    label: str
    """Label of the first labelled one."""
    given: frozenset[Split]
    """Every split that the manifests assign to it."""
    split: Split | None
    """First of those; else `train` if its crawl assigns splits to others; else None."""


def assign(videos: Sequence[Video], settings: SplitSettings, earlier: Mapping[str, Split] | None = None) -> Splits:
    """Assign labelled videos to splits.

    Splits given by a manifest are kept; other videos of such a manifest are used for training. Videos of the other
    crawls are distributed within each class: each class's shares are rounded up or down, and the totals are within one
    video of theirs, except that a class with three videos or more has one in every split. Copies follow the first of
    them: by name of the crawl, then by `duplicate_of`, then by `video_id`. The order of `videos` does not matter.

    Args:
        earlier: Content hash -> split in an earlier run, which takes precedence over manifests, so that a new model is
            not tested on training videos of the old one.
    """
    groups = _by_content(videos)
    crawls_with_splits = {video.crawl for video in videos if video.split and video.venue}
    contents = [_content(copies, crawls_with_splits) for copies in groups.values() if any(v.venue for v in copies)]
    n_videos = Counter(content.label for content in contents)
    classes = tuple(sorted(label for label, n in n_videos.items() if n >= settings.min_venue_videos))
    kept = [content for content in contents if n_videos[content.label] >= settings.min_venue_videos]
    split_of, notes = _place(kept, settings, earlier or {})
    label_of = {content.sha256: content.label for content in contents}
    assignments = tuple(_assignment(video, split_of, label_of) for video in videos)
    return Splits(
        assignments=assignments,
        classes=classes,
        set_aside={label: n for label, n in sorted(n_videos.items()) if label not in classes},
        counts={split: sum(a.split == split for a in assignments) for split in SPLITS},
        notes=(*notes, *_notes(groups.values(), contents, assignments), *_untaught(contents, split_of)),
        settings=settings,
    )


def require_trainable(splits: Splits) -> None:
    """Raise CrawlError unless there are at least two venues, with videos in every split."""
    minimum = splits.settings.min_venue_videos
    if not any(assigned.split or assigned.set_aside for assigned in splits.assignments):
        raise CrawlError(
            "No video has a label, so nothing can be trained. Features need none: `nmcl extract CRAWL --out OUT` and "
            "`nmcl export` give them. If the crawl has labels, name their column or sidecar key: --label-col NAME."
        )
    if len(splits.classes) < 2:
        fewer = listed(f"{label!r} {n:,}" for label, n in splits.set_aside.items())
        enough = examples(splits.classes, 10)
        raise CrawlError(
            f"Training needs at least two venues with {minimum:,} labelled videos of distinct content each. "
            f"Found with enough: {enough or 'none'}; with fewer: {fewer or 'none'}. {_remedy(splits)}"
        )
    empty = [split for split in SPLITS if not splits.counts[split]]
    if empty:
        raise CrawlError(
            f"No labelled video is in {' and none in '.join(empty)}; found {dict(splits.counts)}. Add "
            f"labelled videos; or, if a manifest's split column leaves it out, ignore that column: "
            f"--set columns.split=''."
        )


def _remedy(splits: Splits) -> str:
    fewer = sorted(splits.set_aside.values(), reverse=True)
    n_more = 2 - len(splits.classes)
    if len(fewer) < n_more:
        return "Add labelled videos of other venues."
    return f"Add labelled videos, or accept smaller venues: --set split.min_venue_videos={fewer[n_more - 1]}."


def _by_content(videos: Iterable[Video]) -> dict[str, list[Video]]:
    """Return readable videos by their hash, the first of the copies first."""
    groups: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.sha256:
            groups[video.sha256].append(video)
    for copies in groups.values():
        copies.sort(key=lambda video: (video.crawl, video.duplicate_of is not None, video.video_id))
    return {sha256: groups[sha256] for sha256 in sorted(groups)}


def _content(copies: Sequence[Video], crawls_with_splits: Collection[str]) -> _Content:
    first = next(video for video in copies if video.venue)
    given = [video.split for video in copies if video.split]
    split = given[0] if given else None
    if split is None and first.crawl in crawls_with_splits:
        split = "train"
    return _Content(first.sha256, first.venue or "", frozenset(given), split)


def _assignment(video: Video, split_of: Mapping[str, Split], label_of: Mapping[str, str]) -> Assignment:
    if not video.venue:
        return Assignment()
    if not video.sha256:
        return Assignment(set_aside="unreadable")
    if video.venue != label_of[video.sha256]:
        return Assignment(set_aside="conflicting_venue")
    split = split_of.get(video.sha256)
    return Assignment(split) if split else Assignment(set_aside="rare_venue")


def _place(
    contents: Sequence[_Content], settings: SplitSettings, earlier: Mapping[str, Split]
) -> tuple[dict[str, Split], list[str]]:
    """Return the split of each content hash, and notes about it."""
    given = {content.split for content in contents}
    absent = [split for split in SPLITS if split not in given] if "train" in given else []
    placed: dict[str, Split] = {}
    free, training = [], []
    for content in contents:
        if content.sha256 in earlier:
            placed[content.sha256] = earlier[content.sha256]
        elif content.split == "train" and absent:
            training.append(content)
        elif content.split:
            placed[content.sha256] = content.split
        else:
            free.append(content)
    placed |= _share_out(free, settings.shares(SPLITS), settings.seed)
    if not absent:
        return placed, []
    placed |= _share_out(training, settings.shares(["train", *absent]), settings.seed)
    n_moved = sum(content.split == "train" and placed[content.sha256] != "train" for content in contents)
    return placed, [f"No manifest gives a {' or '.join(absent)} split: took {n_moved:,} training videos for it."]


def _share_out(contents: Iterable[_Content], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Distribute contents among splits within each class, in an order decided by seed and bytes."""
    hashes: dict[str, list[str]] = defaultdict(list)
    for content in contents:
        hashes[content.label].append(content.sha256)
    quotas = allot({label: len(found) for label, found in hashes.items()}, shares)
    placed: dict[str, Split] = {}
    for label, found in hashes.items():
        order = iter(sorted(found, key=lambda sha256: hashlib.sha256(f"{seed}:{sha256}".encode()).digest()))
        for split, n in quotas[label].items():
            placed |= {next(order): split for _ in range(n)}
    return placed


def allot(sizes: Mapping[Label, int], shares: Mapping[Split, float]) -> dict[Label, dict[Split, int]]:
    """Return how many rows of each class go to each split; at least one if the class has as many rows as splits.

    Rounding each class alone would add up: six classes of 80 would be 1.2 videos off in total. So the totals
    of the splits are rounded first, by largest remainder, and each class gives its odd videos to the splits
    that still lack most. That always comes out even (a bipartite graph with given degrees, built greedily
    after Havel and Hakimi).
    """
    quotas = {label: {s: _floor(sizes[label] * share) for s, share in shares.items()} for label in sorted(sizes)}
    totals = _largest_remainder(sum(sizes.values()), shares)
    lacking = {s: totals[s] - sum(quota[s] for quota in quotas.values()) for s in shares}
    for label, quota in quotas.items():
        n_odd = sizes[label] - sum(quota.values())
        exact = {s: sizes[label] * share for s, share in shares.items()}
        for s in sorted(shares, key=lambda s: (-lacking[s], quota[s] - exact[s]))[:n_odd]:
            quota[s] += 1
            lacking[s] -= 1
        _leave_none_empty(quota)
    return quotas


def _leave_none_empty(quota: dict[Split, int]) -> None:
    if sum(quota.values()) >= len(quota):
        for split in quota:
            if not quota[split]:
                quota[max(quota, key=lambda s: quota[s])] -= 1
                quota[split] = 1


def _largest_remainder(n: int, shares: Mapping[Split, float]) -> dict[Split, int]:
    rounded = {s: _floor(n * share) for s, share in shares.items()}
    by_remainder = sorted(shares, key=lambda s: rounded[s] - n * shares[s])
    for s in by_remainder[: n - sum(rounded.values())]:
        rounded[s] += 1
    return rounded


def _floor(x: float) -> int:
    return math.floor(x + 1e-9)  # 0.07 * 100 is above 7, 0.29 * 100 below 29


def _notes(
    groups: Iterable[Sequence[Video]], contents: Iterable[_Content], assignments: Iterable[Assignment]
) -> Iterable[str]:
    conflicts = sum(len({video.venue for video in copies if video.venue}) > 1 for copies in groups)
    if conflicts:
        said = counted(conflicts, "content was", "contents were")
        yield f"{said} labelled with several venues; the first label was kept."
    several = sum(len(content.given) > 1 for content in contents)
    if several:
        yield f"{counted(several, 'content was', 'contents were')} given several splits; all copies follow the first."
    reasons = Counter(a.set_aside for a in assignments if a.set_aside)
    for reason, n in sorted(reasons.items()):
        videos = counted(n, "labelled video is", "labelled videos are")
        yield f"{videos} in no split: {reason.replace('_', ' ')}."


def _untaught(contents: Iterable[_Content], split_of: Mapping[str, Split]) -> Iterable[str]:
    splits: dict[str, set[Split]] = defaultdict(set)
    for content in contents:
        if content.sha256 in split_of:
            splits[content.label].add(split_of[content.sha256])
    classes = sorted(label for label, found in splits.items() if "train" not in found)
    if classes:
        yield f"No training video shows {examples(classes, 10)}, so that cannot be learned."
