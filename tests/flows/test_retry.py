"""Trying failed files again: the same features as without the failure, whenever the command is killed."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import runs
from flows.cli import app
from flows.settings import Settings
from flows.stages import Context
from pipeline.retry import forget_failed
from pipeline.store import Store
from tests.flows.conftest import made


@pytest.fixture(scope="module")
def context(fitted: Path, small_crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A finished extraction during which one file was out of reach."""
    tmp_path = tmp_path_factory.mktemp("retry")
    shutil.copytree(fitted, tmp_path / "out")
    context = Context(Store.open(tmp_path / "out"), quick)
    clip = small_crawl / "3.mp4"
    away = clip.rename(tmp_path / "3.mp4")
    runs.up_to(context, "complete")
    shutil.move(away, clip)
    return context


def test_vectors_that_cannot_be_made_again_are_kept(context: Context, small_crawl: Path, tmp_path: Path) -> None:
    store, plan = context.store, context.plan()
    before = made(store)
    clips = [small_crawl / f"{i}.mp4" for i in range(13)]
    for clip in clips:
        shutil.move(clip, tmp_path / clip.name)
    try:
        forgotten = forget_failed(store, plan.catalogue, plan.failures)
    finally:
        for clip in clips:
            shutil.move(tmp_path / clip.name, clip)
    assert forgotten.n_failed == 0
    assert len(forgotten.notes) == 2
    assert "no longer in" in forgotten.notes[0]
    assert made(store) == before


def test_retry(context: Context, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    store, plan = context.store, context.plan()
    before = made(store)
    runs.up_to(context, "complete")
    assert made(store) == before  # a known failure is no work

    remove, left = Store.remove, iter(range(6))

    def killed(self: Store, name: str) -> None:
        next(left)
        remove(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "remove", killed)
        with pytest.raises(StopIteration):
            forget_failed(store, plan.catalogue, plan.failures)
    again = CliRunner().invoke(app, ["extract", "--out", store.url, "--retry-failed"])
    assert again.exit_code == 0
    assert "tried again: " in again.stderr
    runs.up_to(context, "complete")
    after = made(store)
    assert after.keys() == before.keys()
    wanted = ("features", "failures")
    assert {n: d for n, d in after.items() if n.startswith(wanted)} == {
        n: d for n, d in expected.items() if n.startswith(wanted)
    }
    assert forget_failed(store, plan.catalogue, plan.failures).n_failed == 1  # the file that is no video
