"""The page of a run: its numbers against independent ones, untrusted text, and its behaviour in a real Chromium."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from nmcl.flows.report.run_charts import calibration_bins, charts, coverage_rows
from nmcl.flows.report.run_data import Difference, FailedVideo, RunPage, ShownVideo, Vote
from nmcl.flows.report.run_page import render_run
from nmcl.flows.run import run_page
from nmcl.flows.run.run_page import page_of, thumbnails_of
from nmcl.model.base import Epoch, Scores
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage.run_files import Completion, Metrics, SplitScores
from nmcl.pipeline.storage.runs import PREDICTIONS, REPORT, Run
from nmcl.pipeline.storage.tables import read_table
from tests.browser import Browser, chromium
from tests.hostile import HOSTILE as NAMES
from tests.pages import Page

NO_COUNTS = dict.fromkeys(("videos", "train", "validation", "test", "unlabelled"), 0)
HOSTILE = '</script><script>document.title="taken"</script><b>&amp;\u202e"\'{{7*7}}'


@pytest.fixture(scope="module")
def page(run: Run) -> RunPage:
    return page_of(run)


def test_the_videos_are_the_tested_rows_of_the_predictions(run: Run, page: RunPage) -> None:
    rows = [row for row in read_table(run.store, run.file(PREDICTIONS)).to_pylist() if row["split"] == "test"]
    assert [video.video_id for video in page.videos] == [row["video_id"] for row in rows]
    assert len(rows) == run.require_metrics().test.n_rows
    for video, row in zip(page.videos, rows, strict=True):
        assert video.top[0] == (row["venue_1"], row["probability_1"])
        assert {name: vote.venue for name, vote in video.votes.items()} == {
            name: row[f"venue_by_{name}"] for name in ("acoustic", "textual", "visual")
        }
    truth, predicted = [row["venue"] for row in rows], [row["venue_1"] for row in rows]
    np.testing.assert_array_equal(page.confusion, confusion_matrix(truth, predicted, labels=page.metrics.classes))
    assert page.accuracy_interval
    assert page.accuracy_interval[0] <= (page.metrics.test.micro_f1 or 0) <= page.accuracy_interval[1]
    assert page.made_with["libraries"]["numpy"] == np.__version__


def test_a_vector_is_observed_or_filled_in(page: RunPage) -> None:
    """Every fifth clip has no sound, every fourth no words."""
    for video in page.videos:
        i = int(video.video_id)
        assert (video.votes["acoustic"].observed, video.votes["textual"].observed) == (i % 5 != 0, i % 4 != 0)
        assert video.votes["visual"].observed


def test_pictures_are_those_of_the_store_and_can_be_left_out(run: Run, page: RunPage, tmp_path: Path) -> None:
    stored = thumbnails_of(run.store, run.catalogue)
    of_video = {v.video_id: images.files for v, images in zip(run.catalogue.videos(run.store), stored, strict=True)}
    assert all(video.images == of_video[video.video_id] for video in page.videos)
    assert [len(video.images) for video in page.videos] == [3] * len(page.videos)
    heard = [video for video in page.videos if int(video.video_id) % 5]
    assert [video for video in page.videos if video.spectrogram] == heard
    text = render_run(page)
    assert base64.b64encode(page.videos[0].images[0]).decode() in text
    assert base64.b64encode(heard[0].spectrogram or b"").decode() in text
    bare = render_run(page_of(run, with_media=False))
    assert "image/jpeg;base64,/9j" not in bare
    assert not any(f"{video.video_id}.mp4" in bare for video in page.videos)
    assert '"images":[]' in bare


def test_no_page_has_more_than_its_number_of_pictures(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    n_videos = len(page_of(run).videos)
    monkeypatch.setattr(run_page, "MAX_IMAGES", n_videos + 1)
    found = page_of(run).videos
    assert sorted(len(video.images) for video in found) == [1] * (n_videos - 1) + [2]  # each has one before any has two
    monkeypatch.setattr(run_page, "MAX_IMAGES", 1)
    worst = next(video for video in page_of(run).videos if video.images)
    assert worst.is_right <= min(video.is_right for video in found)


def test_a_run_without_predictions_is_said_in_a_sentence(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a finished run"):
        page_of(Run(run.store, "runs/none-1234"))


def test_the_report_of_a_run_is_this_page(run: Run, page: RunPage) -> None:
    """But for what is known only later: the time of the day, and who is champion."""
    written = run.store.read(run.file(REPORT)).decode()
    first = replace(page, champion="The first run, and so the champion", created="WHEN")
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "WHEN", written) == render_run(first)
    assert (page.champion, page.is_sample) == ("The champion", False)
    assert [(video.video_id, video.path, video.status) for video in page.failures] == [
        ("broken", "clips/broken.mp4", "failed")
    ]


def _synthetic(n_venues: int = 3, name: str = "Venue") -> RunPage:
    """A page whose every fact is known, without a store."""
    rng = np.random.default_rng(0)
    venues = tuple(f"{name} {k}" for k in range(n_venues))
    confusion = rng.integers(0, 4, (n_venues, n_venues)) * (rng.random((n_venues, n_venues)) < 20 / n_venues**2)
    confusion += np.diag(rng.integers(3, 9, n_venues))
    scores = SplitScores(int(confusion.sum()), 0.8123, 0.7456, 0.931, 0.922, 0.99, 0.61)
    nrmse = {"als": {"per_modality": {"visual": 0.456}}, "mean": {"per_modality": {"visual": 1.0, "acoustic": None}}}
    metrics = Metrics(
        test=scores,
        validation=SplitScores(40, 0.8, 0.7, 0.93, 0.92, 0.98, 0.6),
        modalities={"visual": SplitScores(40, 0.61, 0.52), f"scent {name}": SplitScores(40, 0.31)},
        counts=NO_COUNTS | {"videos": 1234, "failed": 2, "missing_acoustic": 17, f"missing_scent {name}": 3},
        notices=(f"Random weights {name}",),
        seconds={"train": 75.0, f"stage {name}": 0.0},
        classes=venues,
        set_aside={f"Rare {name}": 7},
        completion=Completion("als", {"nrmse": nrmse}),
        diagnostics={"gates": {f"visual {name}": {"host": {"open": 0.2, "undecided": 0.5, "shut": 0.3}}}},
        settings={"model": {"hidden": 256, "name": name}, "empty": {}},
    )
    videos = [
        ShownVideo(
            f"v{name} {i}-{j}", f"videos/{name}.mp4", f"words {name}", venues[i], ((venues[j], 0.9), (venues[i], 0.1)),
            "ok", None, {"visual": Vote(venues[j], 0.6, True), f"scent {name}": Vote(None, None, None)},
        )
        for (i, j), n in np.ndenumerate(confusion)
        for _ in range(n)
    ]  # fmt: skip
    return RunPage(
        title=f"A run {name}",
        run=f"nmcl-{name}",
        created="2026-01-02 03:04 UTC",
        metrics=metrics,
        videos=videos,
        accuracy_interval=(0.71, 0.88),
        macro_interval=(0.66, 0.8),
        alone={"visual": (30, 40), f"scent {name}": (0, 0)},
        difference=None,
        confusion=confusion,
        made_with={"version": "9.8.7", "command": f"nmcl run {name}", "libraries": {"numpy": f"1 {name}"}},
        has_media=True,
        history=[Epoch(i, 1 / i, 1.1 / i, Scores(0.5, 0.4, 0.2), {name: Scores(0.4, 0.3, 0.2)}) for i in (1, 2, 3)],
        failures=[FailedVideo(name, f"videos/{name}.mp4", "failed", f"unreadable: moov {name}")],
        champion=f"Champion at the time: {name}",
    )


def _bare(*classes: str) -> RunPage:
    none, square = SplitScores(0), np.zeros((len(classes), len(classes)), int)
    metrics = Metrics(none, none, {}, NO_COUNTS, (), {}, classes=classes)
    return RunPage("Nothing", "nmcl-1", "today", metrics, [], None, None, {}, None, square, {}, has_media=True)


@pytest.mark.parametrize("n_venues", [2, 6, 13, 188])
def test_is_a_well_formed_page_that_fetches_nothing(n_venues: int) -> None:
    text = render_run(_synthetic(n_venues))
    parsed = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    for tag, name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert not {"link", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert "@import" not in text
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    places = {value for tag, name, value in parsed.attributes if name == "href"}
    assert {place.removeprefix("#") for place in places} <= set(ids)


@pytest.fixture(scope="module")
def plain() -> list[str]:
    return sorted(Page(render_run(_synthetic())).tags)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_strangers_stay_text(name: str, plain: list[str]) -> None:
    text = render_run(_synthetic(name=name))
    parsed = Page(text)
    assert sorted(parsed.tags) == plain
    assert not any(attribute.startswith("on") for _, attribute, _ in parsed.attributes)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", text)
    text.encode("utf-8")
    for block in ("data", "specs"):
        found = re.search(rf'<script type="application/json" id="{block}">(.*?)</script>', text, re.DOTALL)
        assert found
        json.loads(found[1])


def test_only_its_own_scripts_may_run() -> None:
    text = render_run(_synthetic())
    policy = next(value for _, name, value in Page(text).attributes if name == "content" and "script" in value)
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>\n", text, flags=re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.count("sha256-") == 2


def test_tells_its_numbers() -> None:
    page = _synthetic()
    shown = Page(render_run(page)).text
    right = page.confusion.trace() / page.confusion.sum()
    recall = page.confusion[1, 1] / page.confusion[1].sum()
    for figure in (
        f"{right:.1%}".replace("%", " %"), f"{recall:.1%}".replace("%", " %"), "71.0 % to 88.0 %", "66.0 % to 80.0 %",
        "81.2 %", "74.6 %", "0.931", "0.922", "0.610", "0.600", "61.0 %", "52.0 %", "1,234", "17", "als (used)",
        "0.456", "Rare Venue", "20.0 %", "50.0 %", "30.0 %", "moov Venue", "1 min 15 s", "model.hidden", "256",
        "nmcl run Venue", "Random weights Venue", "Champion at the time: Venue", "numpy 1 Venue", "9.8.7",
        "1.100 after the first epoch and at its lowest 0.367 after epoch 3 of 3; guessing all venues evenly gives 1.0",
    ):  # fmt: skip
        assert figure in shown, figure
    assert "None" not in shown
    assert "nan" not in shown
    specs = charts(page)
    assert [row["value"] for row in specs["chart-loss"]["data"]["values"]] == [1, 1 / 2, 1 / 3, 1.1, 1.1 / 2, 1.1 / 3]
    for name, fused, branch in (("micro", 0.5, 0.4), ("macro", 0.4, 0.3)):
        rows = specs[f"chart-{name}"]["data"]["values"]
        assert [(row["line"], row["epoch"], row["value"]) for row in rows] == [
            *(("fused", i, fused) for i in (1, 2, 3)),
            *(("Venue branch", i, branch) for i in (1, 2, 3)),
        ]


def test_says_that_a_sample_is_a_sample() -> None:
    assert "rendered, not filmed" in render_run(replace(_synthetic(), is_sample=True))
    assert "rendered, not filmed" not in render_run(_synthetic())


def test_a_challenger_links_to_its_comparison() -> None:
    link = ("a", "href", "retraining.html")
    assert link in Page(render_run(replace(_synthetic(), has_retraining=True))).attributes
    assert link not in Page(render_run(_synthetic())).attributes


@pytest.mark.parametrize("venues", [(), ("only",), ("a", "b")])
def test_an_empty_report_is_a_page(venues: tuple[str, ...]) -> None:
    assert "was not tested" in Page(render_run(_bare(*venues))).text


@pytest.mark.parametrize("field", ["modalities", "notices", "seconds", "set_aside", "diagnostics", "settings"])
def test_any_metrics_may_be_empty(field: str) -> None:
    page = _synthetic()
    empty = type(getattr(page.metrics, field))()
    Page(render_run(replace(page, metrics=replace(page.metrics, **{field: empty}))))


@pytest.mark.parametrize("field", ["history", "videos", "failures", "alone", "made_with"])
def test_any_part_may_be_empty(field: str) -> None:
    empty: Any = {} if field in ("alone", "made_with") else ()
    Page(render_run(replace(_synthetic(), **{field: empty})))


def test_undefined_values_are_dashes() -> None:
    page, nan = _synthetic(), float("nan")
    undefined = replace(page.metrics, test=SplitScores(0, nan, None, nan), modalities={"x": SplitScores(0, nan, nan)})
    worst = [Epoch(1, nan, nan, Scores(nan, nan, nan), {})]
    shown = Page(render_run(replace(page, metrics=undefined, history=worst))).text
    assert "–" in shown
    assert "nan" not in shown


def _videos(n: int, seed: int = 0) -> list[ShownVideo]:
    random = np.random.default_rng(seed)
    confidence, right = random.uniform(0.5, 1, n), random.random(n)
    return [
        ShownVideo(str(i), None, None, "a" if right[i] < confidence[i] else "b", (("a", float(confidence[i])),), "ok",
                   None, {"visual": Vote("a", 1.0, True)})
        for i in range(n)
    ]  # fmt: skip


def test_calibration_is_that_of_scikit_learn() -> None:
    videos = _videos(1000)
    right, mean = calibration_curve(
        [video.is_right for video in videos], [video.confidence for video in videos], n_bins=10, strategy="quantile"
    )
    bins = calibration_bins(videos)
    np.testing.assert_allclose([row["right"] for row in bins], right)
    np.testing.assert_allclose([row["confidence"] for row in bins], mean)
    assert all(row["low"] < row["right"] < row["high"] and row["videos"] == 100 for row in bins)


def test_coverage_ends_at_the_accuracy_of_all() -> None:
    videos = _videos(1000)
    rows = coverage_rows(videos)
    assert (rows[-1]["answered"], rows[-1]["right"]) == (1.0, np.mean([video.is_right for video in videos]))
    half = next(row for row in rows if row["answered"] >= 0.5)
    kept = [video for video in videos if video.confidence >= half["threshold"]]
    assert half["right"] == pytest.approx(np.mean([video.is_right for video in kept]))


def test_names_cannot_leave_their_place(page: RunPage) -> None:
    video = replace(page.videos[0], video_id=HOSTILE, description=HOSTILE, venue=page.metrics.classes[0])
    text = render_run(replace(page, videos=[video], title=HOSTILE, run=HOSTILE))
    assert "<script>document" not in text
    assert "\u202e" not in text
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    assert json.loads(found[1])["videos"][0]["id"] == HOSTILE.replace("\u202e", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize(
    ("interval", "p_value", "said"),
    [
        ((0.05, 0.11), 1e-9, "Yes.</strong>"),
        ((-0.11, -0.05), 1e-9, "No, it hurts.</strong>"),
        ((-0.02, 0.03), 0.7, "Not shown.</strong>"),
        ((0.003, 0.157), 0.077, "Not shown.</strong>"),
        ((0.0, 0.0), None, "nothing can be tested"),
    ],
)
def test_the_answer_follows_the_interval(
    page: RunPage, interval: tuple[float, float], p_value: float | None, said: str
) -> None:
    found = Difference("visual", 100, 0.7, 0.7 - sum(interval) / 2, interval, 20, 12, p_value)
    text = render_run(replace(page, difference=found))
    assert said in text
    assert ("95 % interval: +0.0 to +0.0" in text, "p &lt;" in text or "p < 0.001" in text) == (False, p_value == 1e-9)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(page: RunPage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a wrong prediction, more venues than a table shows, and hostile names."""
    wrong = replace(page.videos[0], video_id=HOSTILE, description=HOSTILE, venue=_other(page, page.videos[0]))
    videos = [wrong, *page.videos[1:]]
    classes = page.metrics.classes
    confusion = confusion_matrix([v.venue for v in videos], [v.top[0][0] for v in videos], labels=classes)
    path = tmp_path_factory.mktemp("page") / "run.html"
    path.write_text(render_run(replace(page, videos=videos, confusion=confusion)), encoding="utf-8")
    return path


def _other(page: RunPage, video: ShownVideo) -> str:
    return next(name for name in page.metrics.classes if name != video.top[0][0])


@pytest.mark.services
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (390, False)])
def test_the_page_works_offline_in_light_dark_and_on_a_phone(
    browser: Browser, file: Path, width: int, dark: bool
) -> None:
    browser.open(file, width=width, dark=dark)
    assert browser.said() == []
    assert browser.requested() == [file.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") == width
    assert browser.run("return document.title") != "taken"
    label = "return getComputedStyle(document.querySelector('#chart-venues svg text')).fill"
    assert browser.run(label) == ("rgb(232, 236, 241)" if dark else "rgb(27, 36, 48)")
    browser.run("document.querySelector('.frames img').scrollIntoView()")  # they are decoded when they are seen
    browser.wait("return document.querySelector('.frames img').naturalHeight > 0")


@pytest.mark.services
def test_cells_of_the_confusion_matrix_open_their_videos_by_keyboard(browser: Browser, file: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(file)
    cell: Any = browser.run(
        "return [...document.querySelectorAll('.matrix button')].find((b) => b.dataset.truth !== b.dataset.predicted)"
    )
    browser.run("arguments[0].focus()", cell)
    browser.press(Keys.ENTER)
    assert browser.run("return document.querySelector('#cell').open")
    assert browser.run("return document.querySelectorAll('#cell li').length") == int(cell.text)
    assert HOSTILE.split("\u202e")[0] in browser.run("return document.querySelector('#cell li').textContent")
    browser.press(Keys.ESCAPE)
    assert not browser.run("return document.querySelector('#cell').open")
    assert browser.run("return document.activeElement === arguments[0]", cell)


@pytest.mark.services
def test_cells_of_a_chart_open_their_videos(browser: Browser, page: RunPage, tmp_path: Path) -> None:
    """Of more venues than a table shows, two of them with the same beginning, one with markup."""
    names = ("a" * 50 + "1", "a" * 50 + "2", HOSTILE, *(f"place {i}" for i in range(12)))
    videos = [
        replace(page.videos[0], video_id=f"{i}-{k}", venue=names[i], top=((names[(i + k) % 15], 0.9), (names[i], 0.1)))
        for i in range(15)
        for k in (0, 0, 1)
    ]
    confusion = confusion_matrix([v.venue for v in videos], [v.top[0][0] for v in videos], labels=names)
    metrics = replace(page.metrics, classes=names)
    file = tmp_path / "run.html"
    file.write_text(render_run(replace(page, videos=videos, confusion=confusion, metrics=metrics)), encoding="utf-8")
    browser.open(file)
    cells = "[...document.querySelectorAll('#chart-confusion path[aria-roledescription]')]"
    assert browser.run(f"return {cells}.length") == 30
    browser.run(f"{cells}.at(-1).dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    assert browser.run("return document.querySelector('#cell').open")
    assert browser.run("return document.querySelectorAll('#cell li').length") == 2
    assert browser.said() == []


@pytest.mark.services
def test_lists_and_search(browser: Browser, file: Path, page: RunPage) -> None:
    browser.open(file)
    shown = "return document.querySelectorAll('#cards li').length"
    n_wrong = 1 + sum(not video.is_right for video in page.videos[1:])
    assert browser.run(shown) == n_wrong
    browser.run("document.querySelector('[data-list=all]').click()")
    assert browser.run(shown) == len(page.videos)
    browser.run(
        "const s = document.querySelector('#search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
        page.videos[1].path,
    )
    assert browser.run("return [...document.querySelectorAll('#cards .about')].map((a) => a.textContent)") == [
        f"{page.videos[1].video_id} · {page.videos[1].path}"
    ]
