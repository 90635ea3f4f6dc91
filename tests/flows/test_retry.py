"""Failures that may pass are tried again, and what comes of it equals what an undisturbed run makes."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmcl.flows.run import runs
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.stages.complete import load_features
from nmcl.pipeline.stages.verify import verify
from nmcl.pipeline.storage.failures import MAX_ATTEMPTS, Failure, Retry, load_failures
from nmcl.pipeline.storage.store import Store
from tests.flows.conftest import made


@pytest.fixture
def crawl(small_crawl: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(small_crawl, tmp_path / "crawls" / "clips"))


@pytest.fixture
def context(crawl: Path, quick: Settings, tmp_path: Path) -> Context:
    """A store in which the crawl is ingested, and the extractors have learned."""
    from nmcl.flows.run import stages

    context = Context(Store.create(tmp_path / "out"), quick)
    stages.ingest(context, crawl)
    runs.up_to(context, "fit")
    return context


def again(context: Context, last: str = "complete", **changes: object) -> dict[str, bytes]:
    """What a further command makes."""
    later = replace(context, tried=set(), **changes)  # type: ignore[arg-type]
    runs.up_to(later, last)
    return made(context.store)


def recorded(context: Context) -> dict[str, tuple[Failure, ...]]:
    """All failures, by video."""
    plan = context.plan()
    return {
        video_id: failures
        for _, part in plan.catalogue.parts()
        for video_id, failures in load_failures(context.store, plan.failures, part).items()
    }


@pytest.fixture
def undisturbed(context: Context, tmp_path: Path) -> dict[str, bytes]:
    """What is made of the crawl where nothing goes wrong."""
    shutil.copytree(context.store.root, tmp_path / "undisturbed")
    runs.up_to(replace(context, store=Store.open(tmp_path / "undisturbed"), tried=set()), "complete")
    return made(Store.open(tmp_path / "undisturbed"))


def same_but_completed(found: dict[str, bytes], wanted: dict[str, bytes]) -> bool:
    """Whether all of `wanted` is there. What was completed without a video is beside it."""
    return {name: data for name, data in found.items() if name in wanted} == wanted


def test_a_file_that_comes_back(context: Context, crawl: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    away = shutil.move(crawl / "3.mp4", tmp_path / "3.mp4")
    runs.up_to(context, "complete")
    assert recorded(context)["3"] == (Failure(None, "missing", recorded(context)["3"][0].detail, 1),)
    first = context.plan().completed.folder
    again(context)
    assert recorded(context)["3"][0].attempts == 2
    shutil.move(away, crawl / "3.mp4")
    assert same_but_completed(again(context), undisturbed)
    assert "3" not in recorded(context)
    assert context.plan().completed.folder != first  # the completer had learned without the video
    assert not verify(context.store).problems


def test_a_file_that_stays_away_is_tried_three_times(context: Context, crawl: Path) -> None:
    (crawl / "3.mp4").unlink()
    runs.up_to(context, "complete")
    for _ in range(4):
        last = again(context)
    assert recorded(context)["3"][0].attempts == MAX_ATTEMPTS
    assert not any(context.store.list(f"features/{name}") == [] for name in context.store.list("features"))
    assert again(context) == last
    assert recorded(context)["broken"][0].attempts == 1  # a damaged file is not tried again
    again(context, retry=Retry(None, max_attempts=None))
    assert recorded(context)["3"][0].attempts == MAX_ATTEMPTS + 1


def test_a_file_that_was_replaced_is_no_vector(
    context: Context, crawl: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    original = (crawl / "4.mp4").read_bytes()
    shutil.copy(crawl / "7.mp4", crawl / "4.mp4")
    same_size = bytearray(original)
    same_size[len(original) // 2] ^= 1
    other = (crawl / "6.mp4").read_bytes()
    (crawl / "6.mp4").write_bytes(bytes(bytearray(other[:-1]) + bytes([other[-1] ^ 1])))
    runs.up_to(context, "complete")
    assert {recorded(context)[name][0].kind for name in ("4", "6")} == {"changed"}
    plan = context.plan()
    rows = {v.video_id: i for i, v in enumerate(plan.videos)}
    vectors = load_features(plan.store, plan.catalogue, plan.features["visual"])
    assert np.isnan(vectors[[rows["4"], rows["6"]]]).all()
    (crawl / "4.mp4").write_bytes(original)
    (crawl / "6.mp4").write_bytes(other)
    assert same_but_completed(again(context), undisturbed)


@pytest.mark.parametrize("stage", ["fit", "extract"])
def test_a_crawl_that_is_gone_is_an_error_of_the_command(
    small_crawl: Path, quick: Settings, tmp_path: Path, stage: str
) -> None:
    from nmcl.flows.run import stages

    crawl = Path(shutil.copytree(small_crawl, tmp_path / "clips"))
    context = Context(Store.create(tmp_path / "out"), quick)
    stages.ingest(context, crawl)
    if stage == "extract":
        runs.up_to(context, "fit")
    away = crawl.rename(tmp_path / "elsewhere")
    with pytest.raises(CrawlError, match="no longer at"):
        runs.up_to(context, "complete")
    crawl.mkdir()  # as the mount point of a disk that is not mounted
    with pytest.raises(CrawlError, match="not mounted"):
        runs.up_to(context, "complete")
    assert made(context.store) == {}
    crawl.rmdir()
    away.rename(crawl)
    runs.up_to(context, "complete")
    assert set(recorded(context)) == {"broken"}


def test_fit_says_which_videos_it_did_without(small_crawl: Path, quick: Settings, tmp_path: Path) -> None:
    from nmcl.flows.run import stages

    crawl = Path(shutil.copytree(small_crawl, tmp_path / "clips"))
    context = Context(Store.create(tmp_path / "out"), quick)
    stages.ingest(context, crawl)
    sample = [video.video_id for video in context.plan().fit_sample("acoustic")]
    lost = next(name for name in sample if name not in ("broken", "0", "5", "10"))
    away = shutil.move(crawl / f"{lost}.mp4", tmp_path / "away.mp4")
    runs.up_to(context, "fit")
    plan = context.plan()
    planned, used = plan.planned_states["acoustic"], plan.states["acoustic"]
    assert planned.address != used.address
    recipe = context.store.read_json(f"{used.folder}/recipe.json")
    assert [video["video_id"] for video in recipe["left_out"]] == [lost]
    assert {video["kind"] for video in recipe["left_out"]} == {"missing"}
    assert context.plan().states["textual"] == context.plan().planned_states["textual"]
    for _ in range(MAX_ATTEMPTS):
        again(context, "fit")
    note = f"{planned.folder}/left_out.json"
    assert context.store.read_json(note)["attempts"] == MAX_ATTEMPTS
    shutil.move(away, crawl / f"{lost}.mp4")
    again(context, "fit")
    assert context.plan().states["acoustic"] == used
    again(context, "fit", retry=Retry(None, max_attempts=None))  # as by `nmcl retry`
    assert context.plan().states["acoustic"] == planned


@pytest.mark.long
def test_a_killed_retry_goes_on(
    context: Context, crawl: Path, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every write and every removal of a retry: afterwards no vector is absent without a failure on record."""
    away = shutil.move(crawl / "3.mp4", tmp_path / "3.mp4")
    runs.up_to(context, "complete")
    shutil.move(away, crawl / "3.mp4")
    before = Path(shutil.copytree(context.store.root, tmp_path / "before"))

    class Killed(BaseException):
        """As if by SIGKILL: nothing of ours catches it."""

    n_steps = 0
    while True:
        n_steps += 1
        store = Store.open(Path(shutil.copytree(before, tmp_path / f"killed-{n_steps}")))
        left = iter(range(n_steps))
        with monkeypatch.context() as patch:
            for name in ("write", "remove"):
                real = getattr(Store, name)

                def step(self: Store, *args: object, real: Any = real, left: Iterator[int] = left) -> None:
                    if next(left, None) is None:
                        raise Killed
                    real(self, *args)

                patch.setattr(Store, name, step)
            try:
                again(replace(context, store=store))
                finished = True
            except Killed:
                finished = False
        if not finished:
            assert not verify(store, n_sources=0).problems
        assert same_but_completed(again(replace(context, store=store)), undisturbed)
        if finished:
            break
        shutil.rmtree(store.root)
    assert n_steps > 10
