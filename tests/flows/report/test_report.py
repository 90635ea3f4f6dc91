import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nmcl.flows.report import Example, ReportData, charts, render, render_retraining, summary
from nmcl.flows.report import numbers as text
from nmcl.model.base import Epoch, Scores
from nmcl.model.evaluate import ClassScores, Curve, Evaluation
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.failures import Failure
from nmcl.pipeline.storage.run_files import ClassChanges, Completion, Metrics, SplitScores
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store
from tests.hostile import HOSTILE as NAMES
from tests.records import COMPARISON, DIFF, DRIFT

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = (
    "<script>alert(1)</script> \"'><img src=x onerror=alert(2)> --> ]]> \u202eevil\u202c שלום 🏖️ $x_1$ "
    "{{ 7*7 }} \x00\x1b\udcff"
)


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what the tests ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


NO_COUNTS = dict.fromkeys(("videos", "train", "validation", "test", "unlabelled"), 0)


def _video(name: str, venue: str | None = None) -> Video:
    return Video(f"v{name}", "a", f"videos/{name}.mp4", "", 1, f"words {name}", venue, None, None)


def _data(n_venues: int = 3, name: str = "Venue") -> ReportData:
    rng = np.random.default_rng(0)
    venues = tuple(f"{name} {k}" for k in range(n_venues))
    confusion = rng.integers(0, 4, (n_venues, n_venues)) + np.diag(rng.integers(10, 30, n_venues))
    line = np.linspace(0, 1, 11)
    scores = SplitScores(int(confusion.sum()), 0.8123, 0.7456, 0.931, 0.922, 0.99, 0.61)
    nrmse = {"als": {"per_modality": {"visual": 0.456}}, "mean": {"per_modality": {"visual": 1.0, "acoustic": None}}}
    return ReportData(
        title=f"A run {name}",
        created="2026-01-02 03:04 UTC",
        metrics=Metrics(
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
        ),
        test=Evaluation(
            scores,
            confusion,
            {venue: ClassScores(0.777, 0.6, 0.5, None, k) for k, venue in enumerate(venues)},
            {"micro": Curve(line, np.sqrt(line), 0.931), "macro": Curve(line, line)},
        ),
        history=[Epoch(i, 1 / i, 1.1 / i, Scores(0.5, 0.4, 0.2), {name: Scores(0.4, 0.3, 0.2)}) for i in (1, 2, 3)],
        examples=[Example(_video(name, venues[0]), ((venues[1], 0.9), (venues[0], 0.1)))],
        failures=[(_video(name), Failure(None, "unreadable", f"moov {name}", 1))],
        command=f"nmcl run --crawl {name}",
    )


def _bare(*classes: str) -> ReportData:
    none = SplitScores(0)
    return ReportData("Nothing", "today", Metrics(none, none, {}, NO_COUNTS, (), {}, classes=classes))


@pytest.mark.parametrize("n_venues", [2, 6, 13, 188])
def test_is_a_well_formed_page_that_fetches_nothing(n_venues: int) -> None:
    page = render(_data(n_venues))
    parsed = Page(page)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:", page)
    for tag, name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert not {"link", "iframe", "object", "embed", "base"} & set(parsed.tags)
    assert "@import" not in page
    assert len([value for _, name, value in parsed.attributes if name == "id"]) == len(
        {value for _, name, value in parsed.attributes if name == "id"}
    )


def test_names_of_strangers_stay_text() -> None:
    data = _data(13, HOSTILE)
    page = render(data)
    parsed, plain = Page(page), Page(render(_data(13)))
    assert parsed.tags.count("script") == 1
    assert sorted(parsed.tags) == sorted(plain.tags)
    assert not any(name.startswith("on") for _, name, _ in parsed.attributes)
    assert "<script>alert(1)</script>" in parsed.text
    assert "{{ 7*7 }}" in parsed.text
    assert "שלום" in parsed.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", page)
    page.encode("utf-8")


def test_only_its_own_script_may_run() -> None:
    page = render(_data())
    policy = next(
        value for tag, name, value in Page(page).attributes if (tag, name) == ("meta", "content") and "script" in value
    )
    assert "default-src 'none'" in policy
    script = re.search(r"<script>(.*)</script>", page, flags=re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_same_data_gives_the_same_bytes() -> None:
    assert render(_data(13)) == render(_data(13))


def test_tells_its_numbers() -> None:
    shown = Page(render(_data())).text.replace("\N{NO-BREAK SPACE}", " ")
    for figure in (
        "81.2 %", "74.6 %", "0.931", "0.922", "61.0 %", "1,234", "17", "als (used)", "0.456",
        "Rare Venue", "20.0 %", "90.0 %", "moov Venue", "1 min 15 s", "model.hidden", "256", "77.7 %",
        "nmcl run --crawl Venue", "Random weights Venue",
    ):  # fmt: skip
        assert figure in shown, figure
    assert "None" not in shown
    assert "nan" not in shown


def test_says_that_a_sample_is_a_sample() -> None:
    assert "rendered, not filmed" in render(replace(_data(), is_sample=True))
    assert "rendered, not filmed" not in render(_data())


@pytest.mark.parametrize("venues", [(), ("only",), ("a", "b")])
def test_an_empty_report_is_a_page(venues: tuple[str, ...]) -> None:
    page = render(_bare(*venues))
    assert "was not tested" in Page(page).text
    assert "<script" not in page


@pytest.mark.parametrize("field", ["modalities", "notices", "seconds", "set_aside", "diagnostics", "settings"])
def test_any_metrics_may_be_empty(field: str) -> None:
    data = _data()
    empty = type(getattr(data.metrics, field))()
    Page(render(replace(data, metrics=replace(data.metrics, **{field: empty}))))


@pytest.mark.parametrize("field", ["history", "examples", "failures"])
def test_any_part_may_be_empty(field: str) -> None:
    Page(render(replace(_data(), **{field: ()})))


def test_undefined_values_are_dashes() -> None:
    data, nan = _data(), float("nan")
    assert data.test is not None
    undefined = replace(data.metrics, test=SplitScores(0, nan, None, nan), modalities={"x": SplitScores(0, nan, nan)})
    data = replace(data, metrics=undefined, test=replace(data.test, confusion=np.zeros((3, 3), int)))
    shown = Page(render(data)).text
    assert "–" in shown
    assert "nan" not in shown


def test_names_that_matplotlib_would_hide_are_drawn() -> None:
    assert "_nolegend_" in Page(charts.roc({"_nolegend_": Curve([0, 1], [0, 1])})).text
    assert "_x" in Page(charts.bars({"_x": SplitScores(1, 0.5, 0.5)}, None)).text


def test_chance_is_that_of_the_most_frequent_venue() -> None:
    found = summary.chance(np.array([[6, 2], [1, 1]]))
    assert found.micro_f1 == pytest.approx(0.8)
    assert found.macro_f1 == pytest.approx((2 * 0.8 / 1.8) / 2)
    assert found.top5 == 1
    assert summary.chance(None).micro_f1 is None


def test_interval_is_wilsons() -> None:
    assert summary.interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert summary.interval(1.0, 3) == pytest.approx((0.4385, 1.0), abs=1e-4)
    assert summary.interval(0.5, 0) is None


def test_most_confused_comes_first_and_the_diagonal_never() -> None:
    found = summary.most_confused(np.array([[9, 1, 0], [3, 5, 0], [0, 0, 0]]), ("a", "b", "c"), 5)
    assert [(pair.venue, pair.taken_for, pair.n_videos, pair.share) for pair in found] == [
        ("b", "a", 3, 0.375),
        ("a", "b", 1, 0.1),
    ]


def test_values_as_text() -> None:
    assert [text.seconds(value) for value in (None, 0.04, 59.9, 75, 7260)] == [
        "–", "0.0 s", "59.9 s", "1 min 15 s", "2 h 1 min",
    ]  # fmt: skip
    assert text.percent(0.0816) == "8.2\N{NO-BREAK SPACE}%"
    assert text.shortened("a  long\nline", 6) == "a lon…"
    assert dict(summary.flat({"a": {"b": [1, None]}, "c": {}})) == {"a.b": "[1, null]", "c": "{}"}


def test_the_page_of_a_retraining(tmp_path: Path) -> None:
    run = Run(Store.create(tmp_path / "out"), "runs/b")
    printable = HOSTILE.encode("utf-8", "ignore").decode()  # a file holds no half of a surrogate pair
    figures = {printable: {"mmd": replace(DRIFT.figures["visual"]["mmd"], exceeded=True)}, **DRIFT.figures}
    diffs, classes = (replace(DIFF, crawl=printable),), ClassChanges((printable,), (), (), ())
    run.write(replace(DRIFT, figures=figures, stopped=True, exceeded=(printable,), diffs=diffs, classes=classes))
    page = render_retraining(run, "today")
    parsed = Page(page)
    assert "Stopped by drift" in parsed.text
    assert parsed.text.count("<script>alert(1)</script>") == 4
    assert (parsed.tags.count("table"), parsed.tags.count("tr")) == (2, 5)
    assert "script" not in parsed.tags
    assert ("tr", "class", "chosen") in parsed.attributes
    assert "report.html" not in page
    assert render_retraining(run, "today") == page
    run.write(COMPARISON)
    run.store.write(run.file("report.html"), b"")
    parsed = Page(render_retraining(run, "today"))
    assert "The champion stays" in parsed.text
    assert "it is worse" in parsed.text
    assert (parsed.tags.count("table"), parsed.tags.count("tr")) == (4, 11)
    assert "Test videos that only one gets right (1)" in parsed.text
    assert "v7" in parsed.text
    assert ("a", "href", "report.html") in parsed.attributes


def test_the_page_names_the_champion() -> None:
    page = render(replace(_bare("a", "b"), champion="Champion at the time: runs/a", is_challenger=True))
    assert "Champion at the time: runs/a" in page
    assert ("a", "href", "retraining.html") in Page(page).attributes
    assert "retraining.html" not in render(_bare("a", "b"))


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < 1000])
def test_charts_show_any_name(name: str) -> None:
    scores, curve, branch = SplitScores(1, 0.5, 0.5), Curve([0.0, 1.0], [0.0, 1.0], 0.5), Scores(0.5, 0.5, 0.5)
    epochs = [Epoch(i, 1.0, 1.0, branch, {name: branch}) for i in (1, 2)]
    drawn = [
        charts.bars({name: scores, f"{name}$": scores}, 0.5),
        charts.roc({name: curve}),
        charts.learning(epochs, "micro_f1"),
        charts.heat_map(np.eye(13), [f"{name} {i}" for i in range(13)]),
    ]
    for chart in drawn:
        page = Page(chart)
        assert not {"script", "foreignobject", "a", "img"} & set(page.tags)
        assert not any(name.startswith("on") for _, name, _ in page.attributes)
