import random
from collections import Counter, defaultdict
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from nmcl.pipeline.errors import CrawlError, SettingsError
from nmcl.pipeline.records import SPLITS, Split, Video
from nmcl.pipeline.stages.splits import Splits, SplitSettings, allot, assign, require_trainable

ALL = SplitSettings(min_venue_videos=1)


def video(
    name: str,
    venue: str | None,
    content: str | None = None,
    split: Split | None = None,
    crawl: str = "a",
    duplicate_of: str | None = None,
) -> Video:
    digest = sha256((content or f"{crawl}/{name}").encode()).hexdigest()
    return Video(name, crawl, f"{name}.mp4", digest, 1, None, venue, split, duplicate_of)


def venues_of(sizes: dict[str, int], split: Split | None = None, crawl: str = "a") -> list[Video]:
    return [video(f"{v}-{i}", v, split=split, crawl=crawl) for v, n in sizes.items() for i in range(n)]


def by_id(videos: list[Video], splits: Splits) -> dict[tuple[str, str], Split | None]:
    return {(v.crawl, v.video_id): a.split for v, a in zip(videos, splits.assignments, strict=True)}


def per_venue(videos: list[Video], splits: Splits) -> dict[str, Counter]:
    counts: dict[str, Counter] = defaultdict(Counter)
    for v, a in zip(videos, splits.assignments, strict=True):
        counts[v.venue][a.split] += 1
    return counts


crawls = st.lists(
    st.builds(
        video,
        name=st.uuids().map(str),
        venue=st.sampled_from([None, "park", "sea", "gym", "café"]),
        content=st.sampled_from([None, None, None, "p", "q", "r", "s"]),
        split=st.sampled_from([None, None, None, "train", "validation", "test"]),
        crawl=st.sampled_from(["a", "b", "c"]),
    ),
    max_size=120,
    unique_by=lambda v: (v.crawl, v.video_id),
)


@settings(deadline=None)
@given(crawls, st.randoms(use_true_random=False), st.integers(1, 8))
def test_any_crawl_is_partitioned_whatever_the_order(
    videos: list[Video], shuffler: random.Random, minimum: int
) -> None:
    chosen = SplitSettings(min_venue_videos=minimum)
    splits = assign(videos, chosen)
    shuffled = shuffler.sample(videos, len(videos))
    assert by_id(videos, splits) == by_id(shuffled, assign(shuffled, chosen))

    sides: dict[str, set[str]] = defaultdict(set)
    for v, a in zip(videos, splits.assignments, strict=True):
        if v.venue is None:
            assert (a.split, a.set_aside) == (None, None)
        else:
            assert (a.split is None) != (a.set_aside is None)
        if a.split:
            assert v.venue in splits.classes
            sides[v.sha256].add(a.split)
    assert all(len(found) == 1 for found in sides.values())
    assert sum(splits.counts.values()) == sum(a.split is not None for a in splits.assignments)
    assert not set(splits.classes) & set(splits.set_aside)
    assert all(n < minimum for n in splits.set_aside.values())


# Shares of which 21 videos make at least one: below that, one in every split wins over the totals.
shares = st.tuples(st.floats(0.2, 1), st.floats(0.2, 1), st.floats(0.2, 1)).map(
    lambda parts: {s: part / sum(parts) for s, part in zip(SPLITS, parts, strict=True)}
)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.integers(21, 400), min_size=1, max_size=30), shares)
def test_quotas_are_rounded_shares_and_totals_within_one(sizes: dict[str, int], share: dict) -> None:
    quotas = allot(sizes, share)
    for venue, quota in quotas.items():
        assert sum(quota.values()) == sizes[venue]
        assert all(abs(quota[s] - sizes[venue] * share[s]) <= 1 + 1e-6 for s in SPLITS)
        assert all(quota.values())
    for s in SPLITS:
        total = sum(quota[s] for quota in quotas.values())
        assert abs(total - sum(sizes.values()) * share[s]) < 1 + 1e-6


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(3, 9), min_size=1, max_size=9))
def test_small_venues_are_in_every_split(sizes: dict[str, int]) -> None:
    videos = venues_of(sizes)
    assert all(set(count) == set(SPLITS) for count in per_venue(videos, assign(videos, ALL)).values())


def test_the_papers_shares() -> None:
    videos = venues_of({f"venue {i}": 80 for i in range(6)})
    splits = assign(videos, SplitSettings())
    assert splits.counts == {"train": 235, "validation": 101, "test": 144}
    assert splits.classes == tuple(f"venue {i}" for i in range(6))
    for count in per_venue(videos, splits).values():
        assert 39 <= count["train"] <= 40
        assert count["test"] == 24


def test_the_seed_decides() -> None:
    videos = venues_of({"park": 60, "sea": 60})
    first = by_id(videos, assign(videos, ALL))
    assert first == by_id(videos, assign(videos, ALL))
    assert first != by_id(videos, assign(videos, replace(ALL, seed=1)))


def test_copies_count_once_and_move_together() -> None:
    copies = [video(f"copy {i}", "park", content="same", crawl="b") for i in range(30)]
    videos = copies + venues_of({"park": 9, "sea": 10})
    splits = assign(videos, SplitSettings(min_venue_videos=11))
    assert splits.set_aside == {"park": 10, "sea": 10}
    splits = assign(videos, SplitSettings(min_venue_videos=10))
    assert len(set(splits.assignments[:30])) == 1
    assert sum(splits.counts.values()) == 49


def test_the_first_label_of_a_content_holds() -> None:
    videos = [
        video("1", "park", content="same"),
        video("0", "sea", content="same", duplicate_of="1"),
        video("2", None, content="same", crawl="b"),
        *venues_of({"park": 5, "sea": 5}),
    ]
    splits = assign(videos, ALL)
    assert splits.assignments[0].split is not None
    assert splits.assignments[1].set_aside == "conflicting_venue"
    assert splits.assignments[2].split is None
    assert "1 content was labelled with several venues; the first label was kept." in splits.notes


def test_unreadable_and_unlabelled_videos_are_in_no_split() -> None:
    videos = [replace(video("x", "park", split="train"), sha256=""), video("y", None, split="test")]
    splits = assign([*videos, *venues_of({"park": 5, "sea": 5})], ALL)
    assert splits.assignments[0].set_aside == "unreadable"
    assert splits.assignments[1].split is None
    assert "1 labelled video is in no split: unreadable." in splits.notes


def test_rare_venues_are_set_aside() -> None:
    videos = venues_of({"park": 50, "sea": 50, "gym": 49})
    splits = assign(videos, SplitSettings())
    assert splits.classes == ("park", "sea")
    assert splits.set_aside == {"gym": 49}
    assert {a.set_aside for a in splits.assignments[100:]} == {"rare_venue"}


class TestGivenSplits:
    def test_hold_and_the_rest_trains(self) -> None:
        videos = [
            *venues_of({"park": 6, "sea": 6}, "train"),
            *[video(f"v{i}", "park", split="validation") for i in range(3)],
            *[video(f"t{i}", "sea", split="test") for i in range(3)],
            video("open", "sea"),
        ]
        splits = assign(videos, ALL)
        assert [a.split for a in splits.assignments] == [v.split or "train" for v in videos]
        assert splits.notes == ()

    def test_missing_validation_is_carved_out_of_training_by_venue(self) -> None:
        training = venues_of({"park": 70, "sea": 70}, "train")
        testing = [video(f"t{i}", "park", split="test") for i in range(30)]
        splits = assign(training + testing, ALL)
        assert splits.counts == {"train": 98, "validation": 42, "test": 30}
        assert per_venue(training, _head(splits, 140)) == {
            "park": Counter(train=49, validation=21),
            "sea": Counter(train=49, validation=21),
        }
        assert splits.notes == ("No manifest gives a validation split: took 42 training videos for it.",)

    def test_another_crawl_is_shared_out_on_its_own(self) -> None:
        given = [video(f"{s}{v}{i}", v, split=s) for s in SPLITS for v in ("park", "sea") for i in range(5)]
        free = venues_of({"park": 100, "sea": 100}, crawl="b")
        splits = assign(given + free, ALL)
        assert [a.split for a in splits.assignments[:30]] == [v.split for v in given]
        assert per_venue(free, _tail(splits, 200))["park"] == Counter(train=49, validation=21, test=30)

    def test_copies_follow_the_first_split(self) -> None:
        videos = [
            video("b", "park", content="same", split="test", duplicate_of="c"),
            video("c", "park", content="same", split="train"),
            *venues_of({"park": 5, "sea": 5}, "train"),
            *[video(f"{s}{i}", "sea", split=s) for s in ("validation", "test") for i in range(2)],
        ]
        splits = assign(videos, ALL)
        assert [a.split for a in splits.assignments[:2]] == ["train", "train"]
        assert "1 content was given several splits; all copies follow the first." in splits.notes

    def test_a_venue_without_training_videos_gives_a_message(self) -> None:
        videos = [
            *venues_of({"park": 6, "sea": 6}, "train"),
            *[video(f"{s}{i}", "gym", split=s) for s in ("validation", "test") for i in range(2)],
        ]
        assert "No training video shows 'gym', so that cannot be learned." in assign(videos, ALL).notes


def _head(splits: Splits, n: int) -> Splits:
    return replace(splits, assignments=splits.assignments[:n])


def _tail(splits: Splits, n: int) -> Splits:
    return replace(splits, assignments=splits.assignments[-n:])


def test_earlier_splits_are_kept_when_a_crawl_arrives() -> None:
    old = venues_of({"park": 60, "sea": 61})
    before = assign(old, ALL)
    earlier = {v.sha256: a.split for v, a in zip(old, before.assignments, strict=True) if a.split}
    new = venues_of({"park": 10, "sea": 30, "gym": 20}, crawl="0")
    copy_of_old = video("copy", "park", content="a/park-0", crawl="0")
    after = assign([*new, copy_of_old, *old], ALL, earlier)
    assert after.assignments[61:] == before.assignments
    assert after.assignments[60] == before.assignments[0]
    assert per_venue(new, _head(after, 60))["park"] == Counter(train=5, validation=2, test=3)


def test_earlier_carving_is_kept() -> None:
    training = venues_of({"park": 40, "sea": 40}, "train")
    testing = [video(f"t{i}", "park", split="test") for i in range(9)]
    before = assign(training + testing, ALL)
    every = zip(training + testing, before.assignments, strict=True)
    earlier = {v.sha256: a.split for v, a in every if a.split}
    more = venues_of({"park": 33}, "train", crawl="0")
    assert _tail(assign(more + training + testing, ALL, earlier), 89).assignments == before.assignments


class TestRequireTrainable:
    def test_accepts_two_venues(self) -> None:
        require_trainable(assign(venues_of({"park": 50, "sea": 50}), SplitSettings()))

    def test_names_what_was_found_and_the_setting(self) -> None:
        splits = assign(venues_of({"park": 50, "sea": 12, "gym": 7}), SplitSettings())
        with pytest.raises(CrawlError) as error:
            require_trainable(splits)
        assert str(error.value) == (
            "Training needs at least two venues with 50 labelled videos of distinct content each. Found with "
            "enough: 'park'; with fewer: 'gym' 7, 'sea' 12. Add labelled videos, or accept smaller venues: "
            "--set split.min_venue_videos=12."
        )

    def test_lowering_the_setting_as_advised_helps(self) -> None:
        videos = venues_of({"park": 30, "sea": 12, "gym": 7})
        with pytest.raises(CrawlError, match=r"min_venue_videos=12\."):
            require_trainable(assign(videos, SplitSettings()))
        require_trainable(assign(videos, SplitSettings(min_venue_videos=12)))

    def test_an_unlabelled_crawl(self) -> None:
        splits = assign([video("a", None)], SplitSettings())
        with pytest.raises(
            CrawlError, match=r"No video has a label.* `nmcl extract CRAWL --out OUT` and `nmcl export`"
        ):
            require_trainable(splits)
        unreadable = replace(video("a", "park"), sha256="")
        with pytest.raises(CrawlError, match=r"enough: none; with fewer: none\. Add labelled videos of other"):
            require_trainable(assign([unreadable], SplitSettings()))

    def test_a_split_without_videos(self) -> None:
        splits = assign(venues_of({"park": 5, "sea": 5}, "test"), ALL)
        with pytest.raises(CrawlError, match=r"in train and none in validation; .*columns\.split=''"):
            require_trainable(splits)


class TestSettings:
    def test_shares_must_sum_to_one(self) -> None:
        with pytest.raises(SettingsError, match=r"sum to 1\.21; expected three shares above 0 that sum to 1"):
            SplitSettings(train=0.7)
        with pytest.raises(SettingsError, match="expected three shares"):
            SplitSettings(train=float("nan"))
        with pytest.raises(SettingsError, match="expected three shares"):
            TypeAdapter(SplitSettings).validate_python({"train": 0.7})
        assert SplitSettings(0.4900004, 0.21, 0.30).train == 0.4900004

    @pytest.mark.parametrize("wrong", [{"train": 0}, {"test": 1.5}, {"seed": -1}, {"min_venue_videos": 0}])
    def test_ranges_are_declared(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValidationError):
            TypeAdapter(SplitSettings).validate_python(wrong)


def test_a_large_crawl_takes_seconds() -> None:
    videos = venues_of({f"venue {i}": 530 for i in range(188)})
    splits = assign(videos, SplitSettings())
    assert sum(splits.counts.values()) == 99_640
    assert abs(splits.counts["train"] - 0.49 * 99_640) < 1
