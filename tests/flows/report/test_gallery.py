"""A gallery of a real store, and of ten thousand videos, in a real Chromium."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.manifold import trustworthiness

from nmcl.flows.report.gallery_data import Gallery
from nmcl.flows.report.gallery_page import index, write_gallery
from nmcl.flows.report.numbers import printable
from nmcl.flows.run.gallery import embedding, gallery_of
from nmcl.flows.run.predict import _WRITERS, load_run, predict, read_predictions
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.storage.runs import PREDICTIONS, Run, champion
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import read_table
from tests.browser import Browser, chromium

HOSTILE = '</script><img src=x onerror=alert(1)>\u2028"\\'


@pytest.fixture(scope="module")
def gallery(run: Run) -> Gallery:
    return gallery_of(run)


def test_every_video_of_the_run_is_there(run: Run, gallery: Gallery) -> None:
    rows = read_table(run.store, run.file(PREDICTIONS)).to_pylist()
    assert [video.shown.video_id for video in gallery.videos] == [row["video_id"] for row in rows]
    assert [video.split for video in gallery.videos] == [row["split"] for row in rows]
    columns = index(gallery)
    venues = [*columns["venues"], None]
    assert [venues[k] for k in columns["predicted"]] == [row["venue_1"] for row in rows]
    sets = ("acoustic", "textual", "visual")
    for agreement, row in zip(columns["agreement"], rows, strict=True):
        votes = [row[f"venue_by_{name}"] for name in sets if row[f"venue_by_{name}"]]
        assert agreement == (pytest.approx(np.mean([v == row["venue_1"] for v in votes]), abs=1e-3) if votes else None)
    for video in gallery.videos:
        assert video.address
        assert Path(video.address.removeprefix("file://")).is_file()
        assert (video.place is None) == (video.shown.status == "failed")


def test_without_media_no_file_is_named(run: Run, tmp_path: Path) -> None:
    write_gallery(gallery_of(run, with_media=False), tmp_path / "gallery")
    text = "".join(path.read_text() for path in (tmp_path / "gallery").rglob("*.*") if path.name != "vega.js")
    assert ".mp4" not in text
    assert not (tmp_path / "gallery/data/images").exists()


def test_a_folder_with_other_files_is_not_replaced(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="holds something else than a gallery"):
        write_gallery(gallery, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    page = write_gallery(gallery, tmp_path / "new")
    before = page.read_bytes()
    assert write_gallery(gallery, tmp_path / "new").read_bytes() == before


def test_other_files_are_no_predictions(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("name\nx\n")
    with pytest.raises(UserError, match="has no column video_id"):
        gallery_of(run, tmp_path / "a.csv")
    table = read_table(run.store, run.file(PREDICTIONS))
    pq.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(UserError, match="are no crawl that"):
        gallery_of(run, tmp_path / "b.parquet")


def test_predictions_are_read_as_they_were_written(tmp_path: Path) -> None:
    columns = {
        "video_id": ["7", "=1+1", "'x", "a\nb"],
        "status": ["ok", "ok", "partial", "failed"],
        "venue_1": ["2024", "+Beach", "NA", None],
        "probability_1": pa.array([0.25, 0.5, 1.0, None], pa.float32()),
    }
    table = pa.table(columns)
    for name, write in _WRITERS.items():
        with open(tmp_path / f"a{name}", "wb") as file:
            write(table, file)
        assert read_predictions(tmp_path / f"a{name}").to_pylist() == table.to_pylist()


def test_predictions_of_another_crawl(trained: Path, small_crawl: Path, tmp_path: Path) -> None:
    out, crawl = tmp_path / "out", tmp_path / "new"
    shutil.copytree(trained, out)
    crawl.mkdir()
    for i in (1, 2, 5):
        shutil.copy(small_crawl / f"{i}.mp4", crawl / f"new-{i}.mp4")
    (crawl / "new-9.mp4").write_bytes(b"no video")
    result = tmp_path / "venues.csv"
    predict(crawl, load_run(out, {}), result)
    run = champion(Store.open(out))
    assert run
    found = gallery_of(run, result).videos
    assert [video.shown.video_id for video in found] == ["new-1", "new-2", "new-5", "new-9"]
    assert [len(video.shown.images) for video in found] == [3, 3, 3, 0]
    assert [video.shown.spectrogram is not None for video in found] == [
        True,
        True,
        False,
        False,
    ]  # every fifth is silent
    assert [video.shown.status for video in found] == ["ok", "ok", "ok", "failed"]
    assert [video.shown.venue for video in found] == [None] * 4
    assert None not in [video.split for video in found]  # all are copies of the run's videos
    assert found[0].address == (crawl / "new-1.mp4").as_uri()


def test_neighbours_on_the_map_are_neighbours_in_the_vectors() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 30)) * 5
    vectors = (centres[np.arange(120) % 4] + random.normal(size=(120, 30))).astype(np.float32)
    observed = np.ones(120, bool)
    observed[7] = False
    places = embedding(FeatureRows({"visual": vectors}, {"visual": observed}))
    assert places[7] is None
    known = np.flatnonzero(observed)
    points = np.array([places[i] for i in known])
    assert trustworthiness(vectors[known], points, n_neighbors=5) > 0.9
    assert (points.min(), points.max()) == (0, 1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.mark.services
def test_filters_player_and_map(browser: Browser, gallery: Gallery, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    first = gallery.videos[1]
    hostile = replace(first, shown=replace(first.shown, description=HOSTILE))
    page = write_gallery(replace(gallery, videos=[gallery.videos[0], hostile, *gallery.videos[2:]]), tmp_path / "g")
    browser.said()
    browser.requested()
    browser.driver.get(page.as_uri())
    shown = "return document.querySelectorAll('#grid li').length"
    assert browser.run(shown) == len(gallery.videos)
    choose = (
        "const f = document.getElementById('filters').elements[arguments[0]]; f.value = arguments[1]; "
        "f.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    browser.run(choose, "outcome", "none")
    assert browser.run(shown) == sum(not video.shown.top for video in gallery.videos)
    browser.run("document.querySelector('[type=reset]').click()")
    browser.wait(f"{shown} === {len(gallery.videos)}")
    browser.run(choose, "search", HOSTILE[:12])
    assert browser.run(shown) == 1
    browser.run("document.querySelector('#grid button').focus()")
    browser.press(Keys.ENTER)
    ready = "const v = document.querySelector('#player video'); return v && v.readyState > 0 && v.duration"
    seconds = browser.wait(ready)
    assert seconds == pytest.approx(0.8, abs=0.1)
    said = browser.run("return document.querySelector('#details p.quiet').textContent")
    assert said.split() == printable(HOSTILE).split()
    browser.press(Keys.ESCAPE)
    browser.run("document.querySelector('[type=reset]').click(); document.querySelector('#map summary').click()")
    browser.wait("return document.querySelector('#chart-map').dataset.ready")
    assert browser.said() == []
    assert {url.split(":")[0] for url in browser.requested()} == {"file"}


@pytest.mark.services
def test_ten_thousand_videos_open_within_three_seconds(browser: Browser, gallery: Gallery, tmp_path: Path) -> None:
    videos = [
        replace(video, shown=replace(video.shown, video_id=f"{i}", images=video.shown.images[:1]))
        for i, video in zip(range(10_000), gallery.videos * 10_000, strict=False)
    ]
    page = write_gallery(replace(gallery, videos=videos), tmp_path / "g")
    start = time.monotonic()
    browser.driver.get(page.as_uri())
    assert browser.run("return document.querySelectorAll('#grid li').length") >= 60
    assert time.monotonic() - start < 3
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    time.sleep(0.5)
    assert browser.run("return document.querySelectorAll('#grid li').length") > 60
