"""Text on screen as the source of feature sets: decoded with all others, retried, and made again like them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmcl.extractors import wordllama
from nmcl.flows.run import runs, stages
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import from_tree
from nmcl.pipeline.optional import is_installed
from nmcl.pipeline.stages.complete import load_features
from nmcl.pipeline.stages.texts import load_found
from nmcl.pipeline.stages.verify import verify
from nmcl.pipeline.storage.store import Store
from tests.extractors.test_ocr import picture
from tests.flows.run.test_texts import embedded, rows
from tests.media import tone, write_video

pytestmark = pytest.mark.skipif(
    not (is_installed("rapidocr") and wordllama.is_installed()), reason="rapidocr or wordllama is not installed"
)

SCREEN = {"extractor": "wordllama", "text": "ocr"}
SHOWN = ["sunset at the beach", "snow on the slope", None, None]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with words on screen, one without, and a file that is no video, in two parts."""
    folder = tmp_path_factory.mktemp("shown") / "clips"
    folder.mkdir()
    for name, words in zip("abc", ((SHOWN[0],), (SHOWN[1],), ()), strict=True):
        frame = picture(*words, size=(640, 360))  # type: ignore[arg-type]
        write_video(folder / f"{name}.mp4", np.stack([frame] * 4), sound=tone(300, 0.4))
    (folder / "d.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def crawl(shown: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shown, tmp_path / "clips"))


def ingested(crawl: Path, out: Path, **sets: dict[str, Any]) -> Context:
    none = {name: {"extractor": "none"} for name in ("visual", "acoustic", "textual") if name not in sets}
    tree = {"features": none | sets, "ingest": {"part_size": 2}, "ocr": {"key_frames": 1, "side": 640}}
    context = Context(Store.create(out), from_tree(tree))
    stages.ingest(context, crawl)
    return context


def vectors(plan: Plan, name: str) -> np.ndarray:
    return load_features(plan.store, plan.catalogue, plan.features[name])


def again(context: Context) -> Plan:
    return runs.up_to(replace(context, tried=set()), "complete")


def test_words_on_screen_are_read_and_embedded(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", screen=SCREEN, acoustic={"extractor": "logmel"})
    plan = runs.up_to(context, "complete")
    assert rows(plan, "ocr") == SHOWN
    np.testing.assert_array_equal(vectors(plan, "screen"), embedded(SHOWN))
    assert np.isnan(vectors(plan, "acoustic")).any(axis=1).tolist() == [False, False, False, True]
    artifact, part = plan.extractors.texts["ocr"], plan.catalogue.crawls[0].parts[1]
    found = load_found(plan.store, artifact, part)
    assert [one.lines for one in found] == [(), None]  # read and without a word; not read
    findings = verify(context.store)
    assert findings.problems == []
    assert findings.checked["texts"] == 2
    assert again(context).run == plan.run
    other = replace(context.settings, media=replace(context.settings.media, max_seconds=9.0))
    assert replace(context, settings=other).plan().features["screen"] != plan.features["screen"]


@pytest.mark.parametrize("fitted", [False, True])
def test_a_video_that_comes_back_is_read(crawl: Path, tmp_path: Path, fitted: bool) -> None:
    learned = {"textual": {"extractor": "paragraph_vectors", "min_words": 1000, "dim": 8, "text": "ocr"}}
    sets = {"screen": SCREEN, **(learned if fitted else {})}
    whole = runs.up_to(ingested(crawl, tmp_path / "whole", **sets), "complete")
    context = ingested(crawl, tmp_path / "out", **sets)
    away = (crawl / "b.mp4").rename(tmp_path / "b.mp4")
    before = runs.up_to(context, "complete")
    assert rows(before, "ocr") == [SHOWN[0], None, None, None]
    assert np.isnan(vectors(before, "screen")).any(axis=1).tolist() == [False, True, True, True]
    away.rename(crawl / "b.mp4")
    again(context)
    after = again(context)
    assert rows(after, "ocr") == SHOWN
    for name in after.features:
        np.testing.assert_array_equal(vectors(after, name), vectors(whole, name))
    assert after.run == whole.run
    assert not verify(context.store).problems


def test_texts_of_other_settings_are_made_again_after_a_retry(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", screen=SCREEN)
    (crawl / "b.mp4").rename(tmp_path / "b.mp4")
    runs.up_to(context, "complete")
    (tmp_path / "b.mp4").rename(crawl / "b.mp4")
    heard = from_tree({**none_but_sound(), "ingest": {"part_size": 2}})
    again(replace(context, settings=heard))
    after = again(context)
    assert rows(after, "ocr") == SHOWN
    np.testing.assert_array_equal(vectors(after, "screen"), embedded(SHOWN))
    assert not verify(context.store).problems


def none_but_sound() -> dict[str, Any]:
    none = {name: {"extractor": "none"} for name in ("visual", "textual")}
    return {"features": {**none, "acoustic": {"extractor": "logmel"}}}


def test_texts_lost_before_their_features_were_written(crawl: Path, tmp_path: Path) -> None:
    """As by a kill between the two, in both orders."""
    context = ingested(crawl, tmp_path / "out", screen=SCREEN)
    plan = runs.up_to(context, "complete")
    key = plan.catalogue.crawls[0].parts[0].key
    text, features = plan.extractors.texts["ocr"].part(key), plan.features["screen"].part(key)
    before = {name: plan.store.read(name) for name in (text, features)}
    for name in (features, text):
        plan.store.remove(name)
        again(context)
        assert {name: plan.store.read(name) for name in (text, features)} == before
