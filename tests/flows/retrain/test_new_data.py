"""What counts as new, and which crawls a challenger learns from."""

from dataclasses import replace
from pathlib import Path

import pytest

from nmcl.flows.retrain.new_data import add_new, content, select_crawls
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, make_part, save_catalogue
from nmcl.pipeline.storage.run_files import Verdict
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store
from tests.records import COMPARISON, DRIFT


def video(crawl: str, name: str, sha256: str, venue: str | None = "Beach") -> Video:
    return Video(name, crawl, f"{name}.mp4", sha256, 1, "words", venue, None, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def crawl_of(store: Store, name: str, *parts: list[Video]) -> Crawl:
    return Crawl(name, f"/crawls/{name}", tuple(make_part(store, rows) for rows in parts), ())


def test_known_content_is_left_out_under_whatever_name(store: Store) -> None:
    old = crawl_of(store, "a", [video("a", "one", "1"), video("a", "two", "2")])
    new = crawl_of(
        store,
        "b",
        [video("b", "one", "1"), video("b", "other", "2", "Street"), video("b", "three", "3")],
        [video("b", "four", "4", None), video("b", "four again", "4")],
    )
    catalogue, (diff,) = add_new(store, Catalogue((old,)), [new])
    assert (diff.n_videos, diff.n_labelled) == (3, 2)
    assert (diff.n_known, diff.n_renamed, diff.n_relabelled) == (2, 1, 1)
    assert [v.video_id for v in catalogue.videos(store)] == ["one", "two", "three", "four", "four again"]
    assert catalogue.crawls[0] == old
    assert catalogue.crawls[1].parts[1] == new.parts[1]  # nothing is known of it: the same part, the same vectors


def test_a_copy_of_a_crawl_is_nothing_new(store: Store) -> None:
    rows = [video("a", "one", "1"), video("a", "two", "2")]
    base = Catalogue((crawl_of(store, "a", rows),))
    copy = crawl_of(store, "copy", [replace(v, crawl="copy") for v in rows])
    catalogue, (diff,) = add_new(store, base, [copy])
    assert catalogue == base
    assert (diff.n_videos, diff.n_known, diff.n_renamed) == (0, 2, 0)


def test_a_known_crawl_brings_what_was_added_to_it(store: Store) -> None:
    first = [video("a", "one", "1"), video("a", "two", "2")]
    base = Catalogue((crawl_of(store, "a", first),))
    grown = crawl_of(store, "a", first, [video("a", "copy of one", "1"), video("a", "three", "3")])
    catalogue, (diff,) = add_new(store, base, [grown])
    assert (diff.n_videos, diff.n_known, diff.n_renamed) == (1, 3, 0)
    assert catalogue.crawls == (grown,)


def test_labels_that_were_changed_in_a_known_crawl_are_reported_and_do_not_count(store: Store) -> None:
    names = ("one", "two", "three", "four")
    rows = [video("a", name, name, None if name == "four" else "Beach") for name in names]
    base = Catalogue((crawl_of(store, "a", rows),))
    venues = ("Street", None, "Beach", "Street")
    edited = crawl_of(store, "a", [replace(v, venue=venue) for v, venue in zip(rows, venues, strict=True)])
    catalogue, (diff,) = add_new(store, base, [edited])
    assert (diff.n_videos, diff.n_known, diff.n_renamed, diff.n_relabelled) == (0, 4, 0, 2)
    assert [v.venue for v in catalogue.videos(store)] == ["Beach", "Beach", "Beach", "Street"]


def test_an_unreadable_file_of_a_known_crawl_is_known(store: Store) -> None:
    rows = [video("a", "one", "1"), video("a", "broken", "")]
    base = Catalogue((crawl_of(store, "a", rows),))
    _, (diff,) = add_new(store, base, [crawl_of(store, "a", [*rows, video("a", "two", "2")])])
    assert (diff.n_videos, diff.n_known) == (1, 2)


def test_what_two_new_crawls_share_is_taken_once(store: Store) -> None:
    crawls = [crawl_of(store, name, [video(name, "x", "9"), video(name, "y", name)]) for name in ("b", "c")]
    _, diffs = add_new(store, Catalogue(), crawls)
    assert [(n.n_videos, n.n_known) for n in diffs] == [(2, 0), (1, 1)]


def note(store: Store, name: str, crawl: Crawl, verdict: Verdict | None = None) -> None:
    """As a retraining with this crawl would leave it."""
    run, crawls = Run(store, f"runs/{name}"), {crawl.name: content(crawl)}
    run.write(replace(DRIFT, crawls=crawls, stopped=verdict is None, when="1"))
    if verdict:
        run.write(replace(COMPARISON, crawls=crawls, verdict=verdict, when="2"))


def test_crawls_that_were_merely_not_enough_join_and_doubtful_ones_do_not(store: Store) -> None:
    names = ("base", "waiting", "doubted", "stopped", "won", "unseen", "named")
    crawls = {name: crawl_of(store, name, [video(name, name, name)]) for name in names}
    save_catalogue(store, Catalogue(tuple(crawls.values())))
    note(store, "1", crawls["waiting"], Verdict(False, (), ()))
    note(store, "2", crawls["doubted"], Verdict(False, (), ("doubted",)))
    note(store, "3", crawls["stopped"])
    note(store, "4", crawls["won"], Verdict(True, (), ()))

    def joined(*folders: str) -> list[str]:
        return [
            crawl.name for crawl in select_crawls(store, [Path("/crawls", f) for f in folders] if folders else None)
        ]

    assert joined("named") == ["waiting", "named"]
    assert joined("doubted") == ["waiting", "doubted"]  # a person insists
    assert joined() == ["base", "waiting", "unseen", "named"]


def test_a_doubtful_crawl_that_changed_is_looked_at_again(store: Store) -> None:
    before = crawl_of(store, "b", [video("b", "x", "9")])
    note(store, "1", before, Verdict(False, (), ("b",)))
    save_catalogue(store, Catalogue((before,)))
    assert select_crawls(store, None) == []
    after = crawl_of(store, "b", [video("b", "x", "9", "Street")])
    save_catalogue(store, Catalogue((after,)))
    assert select_crawls(store, None) == [after]
