import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from nmcl.flows.report import (
    Completion,
    Counts,
    Curve,
    Epoch,
    Example,
    Failure,
    Gate,
    PageTable,
    ReportData,
    RetrainingData,
    Scores,
    SplitScores,
    VenueRow,
    charts,
    render,
    render_retraining,
    summary,
)
from nmcl.flows.report import numbers as text
from tests.hostile import HOSTILE as NAMES

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


def _data(n_venues: int = 3, name: str = "Venue") -> ReportData:
    rng = np.random.default_rng(0)
    venues = tuple(f"{name} {k}" for k in range(n_venues))
    confusion = rng.integers(0, 4, (n_venues, n_venues)) + np.diag(rng.integers(10, 30, n_venues))
    line = np.linspace(0, 1, 11)
    return ReportData(
        title=f"A run {name}",
        created="2026-01-02 03:04 UTC",
        venues=venues,
        test=SplitScores(int(confusion.sum()), 0.8123, 0.7456, 0.99, 0.931, 0.922, 0.61),
        validation=SplitScores(40, 0.8, 0.7, 0.98, 0.93, 0.92, 0.6),
        modalities={"visual": Scores(0.61, 0.52), f"scent {name}": Scores(0.31, None)},
        methods={"early_fusion": Scores(0.44, 0.33)},
        counts=Counts(videos=1234, failed=2, duplicates=1, unlabelled=12, train=100, validation=40, test=40),
        missing={"acoustic": 17, f"scent {name}": 3},
        completion=Completion("als", {"als": {"visual": 0.456}, "mean": {"visual": 1.0, "acoustic": None}}),
        confusion=confusion,
        roc={"micro": Curve(line, np.sqrt(line), 0.931), f"{name}": Curve(line, line)},
        history=[Epoch(i, 1 / i, 1.1 / i, 0.5, None, {"visual": Scores(0.4, 0.3)}) for i in (1, 2, 3)],
        per_venue=[VenueRow(venue, 0.777, None, 0.5, k) for k, venue in enumerate(venues)],
        set_aside={f"Rare {name}": 7},
        gates=[Gate("visual", 0.2, 0.5, 0.3)],
        examples=[
            Example(f"v{name}", venues[0], ((venues[1], 0.9), (venues[0], 0.1)), f"words {name}", b"\xff\xd8jpeg")
        ],
        failures=[Failure(f"v1{name}", f"videos/{name}.mp4", "unreadable", f"moov {name}")],
        seconds={"train": 75.0, f"stage {name}": None},
        settings={"model": {"hidden": 256, "name": name}, "empty": {}},
        command=f"nmcl run --crawl {name}",
        notices=[f"Random weights {name}"],
    )


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
        "81.2 %", "74.6 %", "0.931", "0.922", "61.0 %", "44.0 %", "1,234", "17", "als (used)", "0.456",
        "Rare Venue", "20.0 %", "90.0 %", "moov Venue", "1 min 15 s", "model.hidden", "256", "77.7 %",
        "nmcl run --crawl Venue", "Random weights Venue", "early_fusion",
    ):  # fmt: skip
        assert figure in shown, figure
    assert "None" not in shown
    assert "nan" not in shown


def test_says_that_a_sample_is_a_sample() -> None:
    assert "rendered, not filmed" in render(replace(_data(), is_sample=True))
    assert "rendered, not filmed" not in render(_data())


@pytest.mark.parametrize("venues", [(), ("only",), ("a", "b")])
def test_an_empty_report_is_a_page(venues: tuple[str, ...]) -> None:
    page = render(ReportData(title="Nothing", created="today", venues=venues))
    assert "was not tested" in Page(page).text
    assert "<script" not in page


@pytest.mark.parametrize(
    "field",
    ["modalities", "methods", "missing", "roc", "history", "per_venue", "gates", "failures", "seconds"],
)
def test_any_part_may_be_empty(field: str) -> None:
    data = _data()
    Page(render(replace(data, **{field: type(getattr(data, field))()})))


def test_undefined_values_are_dashes() -> None:
    nan = float("nan")
    scores = SplitScores(0, nan, None, nan, None, nan, None)
    data = replace(
        _data(),
        test=scores,
        confusion=np.zeros((3, 3), int),
        history=[Epoch(1)],
        modalities={"x": Scores(nan, nan)},
    )
    shown = Page(render(data)).text
    assert "–" in shown
    assert "nan" not in shown


def test_names_that_matplotlib_would_hide_are_drawn() -> None:
    data = replace(_data(), roc={"_nolegend_": Curve([0, 1], [0, 1])}, modalities={"_x": Scores(0.5, 0.5)})
    assert "_nolegend_" in Page(render(data)).text


def test_refuses_a_matrix_of_other_venues() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\), expected \(3, 3\)"):
        render(replace(_data(), confusion=np.eye(2, dtype=int)))


def test_chance_is_that_of_the_most_frequent_venue() -> None:
    found = summary.chance(np.array([[6, 2], [1, 1]]))
    assert found.micro_f1 == pytest.approx(0.8)
    assert found.macro_f1 == pytest.approx((2 * 0.8 / 1.8) / 2)
    assert found.top5_accuracy == 1
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


def test_the_page_of_a_retraining() -> None:
    tables = [
        PageTable("Drift", [["figure", "value", "verdict"], [HOSTILE, "0.5", "exceeded"], ["visual mmd", "0.1", "ok"]]),
        PageTable("Crawls", [["crawl", "new videos"], ["b", 1500]]),
    ]
    data = RetrainingData("runs/b against runs/a", "today", "Stopped by drift", [HOSTILE], tables, [HOSTILE])
    page = render_retraining(data)
    parsed = Page(page)
    assert parsed.tags.count("table") == 2
    assert parsed.tags.count("tr") == 5
    assert "script" not in parsed.tags
    assert ("tr", "class", "chosen") in parsed.attributes
    assert ("a", "href", "report.html") in parsed.attributes
    assert "report.html" not in render_retraining(replace(data, has_report=False))
    assert render_retraining(data) == page


def test_the_page_tells_of_the_champion() -> None:
    page = render(ReportData("t", "today", ("a", "b"), champion="Champion at the time: runs/a", is_challenger=True))
    assert "Champion at the time: runs/a" in page
    assert ("a", "href", "retraining.html") in Page(page).attributes
    assert "retraining.html" not in render(ReportData("t", "today", ("a", "b")))


@pytest.mark.parametrize("name", [name for name in NAMES if len(name) < 1000])
def test_charts_show_any_name(name: str) -> None:
    scores, curve = Scores(0.5, 0.5), Curve([0.0, 1.0], [0.0, 1.0], 0.5)
    epochs = [Epoch(i, 1.0, 1.0, 0.5, 0.5, {name: scores}) for i in (1, 2)]
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
