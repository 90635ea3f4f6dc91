import base64
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import f1_score

from nmcl.flows.report.numbers import printable
from nmcl.flows.report.study import curves, findings, write_study
from nmcl.flows.report.study.figures import figures
from nmcl.flows.report.study.page import page
from nmcl.flows.report.study.style import apart
from nmcl.flows.report.study.tables import tables
from nmcl.model.evaluate import Curve
from nmcl.model.study.results import (
    FUSED,
    AbsenceScores,
    AttentionMemory,
    CompleterScores,
    CompletionLevel,
    EpochScores,
    GatePoint,
    LabelShare,
    MethodRow,
    RelationExample,
    Rows,
    ScoreRow,
    Spread,
    StudyData,
    Trial,
)
from tests.pages import Page

HOSTILE = (
    "<script>alert(1)</script> \"'><img src=x onerror=alert(2)> --> ]]> a|b *c* \\| \u202eevil\u202c שלום 🏖️ $x_1$ "
    "{{ 7*7 }} \x00\x1b\udcff"
)
# Name, micro-F1 and macro-F1 as a study might find them.
METHODS = (
    ("majority", 0.114, 0.001), ("early_fusion", 0.352, 0.213), ("late_fusion", 0.341, 0.202),
    ("early_attention", 0.371, 0.232), ("late_attention", 0.348, 0.215), ("trumann", 0.274, 0.109),
    ("dare_lite", 0.344, 0.202), ("logistic", 0.389, 0.271), ("late_logistic", 0.377, 0.252),
    ("mlp", 0.395, 0.262), ("tokens", 0.402, 0.281), ("gmu", 0.398, 0.264), ("low_rank", 0.361, 0.221),
    ("modality_attention", 0.391, 0.259), ("gradient_boosting", 0.358, 0.199), ("nmcl_paper", 0.320, 0.151),
    ("nmcl", 0.400, 0.268),
)  # fmt: skip
DIMS = {"acoustic": 200, "textual": 100, "visual": 2048}


def spread(mean: float, std: float, n_seeds: int, random: np.random.Generator) -> Spread:
    values = np.clip(mean + std * random.normal(size=n_seeds), 0, 1)
    return Spread(float(values.mean()), float(values.std(ddof=1)) if n_seeds > 1 else None, tuple(values.tolist()))


def study(name: str = "", n_seeds: int = 5, n_methods: int = 17, n_classes: int = 188) -> StudyData:
    """An artificial study; `name` is added to all untrusted names."""
    random = np.random.default_rng(0)
    rows = [_method(*row, n_seeds, random) for row in METHODS[-n_methods:]]
    if name:
        rows.append(replace(rows[0], name=f"=rival {name}"))
    hosts = {f"{host}{name}": dim for host, dim in DIMS.items()}
    return StudyData(
        title=f"NMCL against its rivals {name}",
        created="2026-01-02 03:04 UTC",
        rows=Rows(13_237, 5_673, 8_104),
        dims=hosts,
        n_classes=n_classes,
        seeds=range(n_seeds),
        methods=rows,
        modalities=[
            ScoreRow(subset, spread(micro, 0.003, n_seeds, random), spread(macro, 0.002, n_seeds, random), 1.3e-8, 0.04)
            for subset, micro, macro in (
                ("textual", 0.134, 0.022),
                ("acoustic", 0.142, 0.034),
                ("visual", 0.282, 0.112),
                ("acoustic+textual", 0.206, 0.071),
                ("textual+visual", 0.385, 0.238),
                (f"all{name}", 0.400, 0.268),
            )
        ],
        enhanced={
            f"acoustic+textual{name}": {
                "acoustic": spread(0.2, 0.002, n_seeds, random),
                "textual": spread(0.2, 0.001, n_seeds, random),
            },
            "all": {modality: spread(0.35, 0.003, n_seeds, random) for modality in hosts},
        },
        variants=[
            ScoreRow(f"{row}{name}", *(spread(mean, 0.003, n_seeds, random) for mean in (0.39, 0.25)), 0.02, 0.3)
            for row in ("variant_1", "variant_2", "variant_3", "variant_4", "nmcl")
        ],
        completion=[_level(hidden / 10, name, n_seeds, random) for hidden in range(1, 10)],
        learning_curves=[
            LabelShare(
                row.name,
                share,
                round(13_237 * share),
                spread((row.macro_f1.mean or 0) * (0.5 + share / 2), 0.004, n_seeds, random),
                spread((row.macro_f1.mean or 0) * (0.6 + share / 3), 0.004, n_seeds, random) if share < 1 else Spread(),
                0.02 if share < 1 else None,
            )
            for row in rows
            for share in (0.05, 0.1, 0.25, 0.5, 1.0)
        ],
        absence={
            host: {
                "completed": AbsenceScores(spread(0.36, 0.004, n_seeds, random), Spread(0.22), 0.048),
                "masked": AbsenceScores(spread(0.37, 0.004, n_seeds, random), Spread(0.23), -0.002),
            }
            for host in hosts
        },
        roc={"micro": _curves([row.name for row in rows], 0.96), "macro": _curves([row.name for row in rows], 0.89)},
        epochs=_epochs([FUSED, *hosts]),
        gates=[point for host in hosts for point in _gates(host)],
        collapse={host: {epoch: 0.1 + 0.01 * epoch for epoch in (1, 10, 29)} for host in hosts},
        relations=[_relation(f"Park{name}", 36, random), _relation(f"Piazza{name}", 120, random)],
        attention=[
            AttentionMemory(
                f"acoustic{name}",
                [f"{v}{name}" for v in _venues(30)],
                [f"a{i}" for i in range(24)],
                1 + 0.3 * random.normal(size=(30, 24)),
            ),
            AttentionMemory(
                "visual",
                _venues(n_classes),
                [f"v{i}" for i in range(64)],
                1 + 0.1 * random.normal(size=(n_classes, 64)),
            ),
        ],
        settings={"study": {"seeds": n_seeds, "name": name}, "empty": {}},
        tuning={
            f"nmcl{name}": [
                Trial({"train.learning_rate": rate, "x": name}, 0.2 + rate, rate == 0.01) for rate in (0.001, 0.01, 0.1)
            ],
            "logistic": [Trial({}, None)],
        },
        notices=[f"Rendered videos {name}"],
        command=f"nmcl reproduce --out study {name}",
    )


def _method(name: str, micro: float, macro: float, n_seeds: int, random: np.random.Generator) -> MethodRow:
    is_reference, is_tested = name == "nmcl", n_seeds > 1
    p_value = None if is_reference or not is_tested else float(10 ** -(120 * abs(macro - 0.268)))
    return MethodRow(
        name,
        spread(micro, 0.004, n_seeds, random),
        spread(macro, 0.004, n_seeds, random),
        *(spread(area, 0.002, n_seeds, random) for area in (0.8 + micro / 2.6, 0.7 + macro / 1.5, 0.3 + micro)),
        train_seconds=400 * micro**2,
        parameters=int(2_000_000 * micro),
        p_value=p_value,
        macro_p_value=None if p_value is None else min(1.0, p_value / 16),
        corrected_p_value=p_value,
        verdict_p_value=p_value,
        mcnemar_p_value=p_value,
    )


def _level(hidden: float, name: str, n_seeds: int, random: np.random.Generator) -> CompletionLevel:
    scores = {
        completer: CompleterScores(
            start + 0.5 * hidden**2 * (1 - start), {"visual": start, f"acoustic{name}": None},
            spread(0.25 - 0.1 * hidden * start, 0.004, n_seeds, random),
        )
        for completer, start in ((f"ridge{name}", 0.62), ("als", 0.71), ("implicit", 0.9), ("mean", 1.0))
    }  # fmt: skip
    return CompletionLevel(hidden, scores)


def _curves(names: Sequence[str], best: float) -> dict[str, Curve]:
    grid = np.linspace(0, 1, 201)
    score = {name: macro for name, _, macro in METHODS}
    areas = [best - 1.5 * abs(0.281 - score.get(name, 0.2)) ** 1.5 for name in names]
    return {
        name: Curve(grid.tolist(), (grid ** ((1 - area) / area)).tolist(), area)
        for name, area in zip(names, areas, strict=True)
    }


def _epochs(branches: Sequence[str]) -> dict[str, list[EpochScores]]:
    return {
        branch: [
            EpochScores(n, (0.4 - 0.04 * i) * (1 - np.exp(-n / 6)), (0.27 - 0.03 * i) * (1 - np.exp(-n / 9)))
            for n in range(1, 41)
        ]
        for i, branch in enumerate(branches)
    }


def _gates(host: str) -> list[GatePoint]:
    sides: tuple[Literal["host", "guest"], ...] = ("host", "guest")
    found = []
    for side in sides:
        for epoch in range(1, 41):
            is_open, shut = 0.4 * (1 - np.exp(-epoch / 8)), 0.3 * (1 - np.exp(-epoch / 5))
            found.append(GatePoint(epoch, host, side, is_open, 1 - is_open - shut, shut, 0.6, 0.7, 0.05))
    return found


def _relation(title: str, n_features: int, random: np.random.Generator) -> RelationExample:
    scores = random.random((3, n_features)) ** 1.5
    consistent = scores[2] * 0.9
    guests = ("textual", "visual", "all guests")
    complementary = (1 - consistent) * 0.8
    names = [("Male speech, man speaking", "Violin", "Air horn, truck horn", f"{i}")[i % 4] for i in range(n_features)]
    return RelationExample(title, "Park", title, "acoustic", guests, names, scores, consistent, complementary)


def _venues(n: int) -> list[str]:
    return [f"{('Park', 'Coffee shop', 'Gym', 'Residential building')[k % 4]} {k}" for k in range(n)]


def rendered(data: StudyData) -> str:
    return page(data, tables(data), figures(data))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("study") / "new" / "folder"
    write_study(study(), found)
    return found


@pytest.fixture(scope="module")
def hostile_page() -> str:
    return rendered(_small(HOSTILE))


def _small(name: str = "") -> StudyData:
    return study(name, n_methods=3, n_classes=5)


def test_writes_all_files(folder: Path) -> None:
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    drawn = (
        "fig4-roc", "fig5-epochs", "fig6-relation-1", "fig6-relation-2", "fig7-attention-acoustic",
        "fig7-attention-visual", "methods", "learning-curves", "completion", "gates",
    )  # fmt: skip
    listed = (
        "table2-methods", "tests", "table3-modalities", "table4-enhanced", "table5-variants", "ranking",
        "calibration", "learning-curves", "completion", "absence", "gates", "collapse", "constant",
    )  # fmt: skip
    assert written == {
        "report.html",
        *(f"figures/{name}.{suffix}" for name in drawn for suffix in ("svg", "png")),
        *(f"tables/{name}.{suffix}" for name in listed for suffix in ("md", "csv")),
    }


def test_figures_open_and_are_white(folder: Path) -> None:
    for path in (folder / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 400
            assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    for path in (folder / "figures").glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("}svg")
        assert "<dc:date>" not in path.read_text("utf-8")


def test_same_data_give_the_same_svg(folder: Path) -> None:
    drawings = list(figures(study()))
    assert drawings
    for drawing in drawings:
        assert drawing.svg() == (folder / "figures" / f"{drawing.name}.svg").read_bytes(), drawing.name


def test_is_a_well_formed_page_that_fetches_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text("utf-8")
    parsed = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"https?:|@import", text)
    assert "default-src 'none'" in next(
        value for _, name, value in parsed.attributes if name == "content" and "src" in value
    )
    for tag, name, value in parsed.attributes:
        if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(parsed.tags)
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, name, value in parsed.attributes:
        if name == "href" and value.startswith("#"):
            assert value[1:] in ids, value
    assert not re.search(r"#0102[0-9a-f]{2}", text)  # all place-holders became variables


def test_tells_its_numbers(folder: Path) -> None:
    shown = Page((folder / "report.html").read_text("utf-8")).text
    for words in (
        "17 methods were compared on 27,014 rows (13,237 training, 5,673 validation, 8,104 test) of 3 modalities "
        "( acoustic , textual and visual ) and 188 venues, with 5 seeds.",
        "Rendered videos", "behind by", "no significant difference", "0.109 %", "12.57 / 0.20 %",
        "majority, here", "late_fusion, here", "nmcl reproduce --out study", "study.seeds",
        "train.learning_rate = 0.01",
        "Table 3.", "Table 4.", "Table 5.",
    ):  # fmt: skip
        assert words in shown, words
    assert "nan" not in shown.split()
    assert "None" not in shown.split()


def _markdown_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [[re.sub(r"\\(.)", r"\1", cell.strip("*")) for cell in row] for row in cells[:1] + cells[2:]]


def test_tables_hold_the_numbers(folder: Path) -> None:
    data = study()
    with (folder / "tables" / "table2-methods.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = _markdown_rows((folder / "tables" / "table2-methods.md").read_text("utf-8"))
    assert [row["method"] for row in rows] == [row[0] for row in shown[1:]] == [row.name for row in data.methods]
    for row, cells, method in zip(rows, shown[1:], data.methods, strict=True):
        assert float(row["micro_f1_mean"]) == method.micro_f1.mean
        assert float(row["macro_f1_std"]) == method.macro_f1.std
        assert (float(row["verdict_p_value"]) if row["verdict_p_value"] else None) == method.verdict_p_value
        mean, std = cells[1].split("±")
        assert float(mean) == pytest.approx(100 * (method.micro_f1.mean or 0), abs=0.0051)
        assert float(std) == pytest.approx(100 * (method.micro_f1.std or 0), abs=0.0051)


def test_best_of_each_column_is_bold() -> None:
    rows = [
        MethodRow("a", Spread(0.40041, 0.0037), Spread(0.2)),
        MethodRow("b", Spread(0.40039, 0.0037), Spread(0.3)),
        MethodRow("nmcl", Spread(0.1), Spread()),
    ]
    table = next(tables(replace(study(), methods=rows)))
    text = table.markdown()
    assert text.count("**40.04±0.37**") == 2
    assert "**30.00**" in text
    assert "**20.00**" not in text
    assert "| nmcl | 10.00 | – |" in text


def test_names_stay_names_in_tables() -> None:
    data = _small(HOSTILE)
    expected = " ".join(printable(HOSTILE).split())
    for table in tables(data):
        read = list(csv.reader(io.StringIO(table.csv())))
        assert {len(row) for row in read} == {len(read[0])}, table.name
        for row in read:
            for cell in row:
                is_number = re.fullmatch(r"-?[0-9.e+-]+", cell)
                assert is_number or not cell.startswith(("=", "+", "-", "@", "\t")), cell
        shown = _markdown_rows(table.markdown())
        assert {len(row) for row in shown} == {len(table.columns)}, table.name
        assert "<script" not in table.markdown().replace("\\<", "")
        table.markdown().encode()
    methods = next(tables(data))
    assert _markdown_rows(methods.markdown())[-1][0] == f"=rival {expected}"
    assert list(csv.DictReader(io.StringIO(methods.csv())))[-1]["method"] == f"'=rival {expected}"


def test_names_of_strangers_stay_text(hostile_page: str) -> None:
    parsed = Page(hostile_page)
    assert not {"script", "img"} & set(parsed.tags)
    assert not any(name.startswith("on") for _, name, _ in parsed.attributes)
    assert "<script>alert(1)</script>" in parsed.text
    assert "{{ 7*7 }}" in parsed.text
    assert "שלום" in parsed.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", hostile_page)
    hostile_page.encode("utf-8")


def test_figures_of_strange_names_are_files() -> None:
    data = _small(HOSTILE)
    host = data.attention[0]
    drawings = list(figures(replace(data, attention=[host, host, replace(host, host="..//")])))
    names = [drawing.name for drawing in drawings]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)
    for drawing in drawings[:3]:
        ElementTree.fromstring(drawing.svg())
    drawings[0].png()


@pytest.mark.parametrize(
    ("field", "gone"),
    [
        ("methods", "methods-compared"), ("roc", "Fig. 4"), ("epochs", "fig5-epochs"), ("modalities", "Table 3."),
        ("enhanced", "Table 4."), ("variants", "Table 5."), ("completion", "Vectors hidden"), ("absence", "is absent"),
        ("learning_curves", "How many labels"),
        ("gates", "Undecided"), ("collapse", "Branch"), ("relations", "Fig. 6"), ("attention", "Fig. 7"),
        ("settings", "settings</summary>"), ("tuning", "was tried"), ("notices", "Read this"),
        ("command", "This command"),
    ],
)  # fmt: skip
def test_empty_parts_are_left_out(field: str, gone: str) -> None:
    data = _bare()
    full = _small()
    assert gone not in rendered(data)
    assert gone in rendered(replace(data, **{field: getattr(full, field)}))


def test_an_example_is_named_and_pictured_once() -> None:
    data = _small()
    first = replace(data.relations[0], title="clips/7.mp4", image=b"\xff\xd8 a picture")
    shown = rendered(replace(data, relations=[first, replace(first, host="visual")]))
    assert shown.count(base64.b64encode(first.image or b"").decode()) == 1
    assert "A key frame of clips/7.mp4" in shown
    assert 'class="pictured"' not in rendered(data)


def test_roc_curves_are_shown_where_they_say_something() -> None:
    edges, bent = Curve([0, 0, 1], [0, 1, 1], 1.0), Curve([0, 0.2, 1], [0, 0.7, 1], 0.75)
    constant = Curve([0, 1], [0, 1], 0.5)
    data = replace(_bare(), roc={"micro": {"x": edges, "majority": constant}, "macro": {"x": bent}})
    assert curves.telling(data) == ["macro"]
    rows = [MethodRow("nmcl", Spread(0.4), Spread(0.2))]
    perfect = replace(data, methods=rows, roc={"micro": {"x": edges, "majority": constant}})
    assert "fig4-roc" not in [drawing.name for drawing in figures(perfect)]
    assert "The ROC curves (the paper's Fig. 4) are left out" in Page(rendered(perfect)).text


def _bare() -> StudyData:
    return StudyData("Nothing", "today", Rows(0, 0, 0), {}, 0, (), ())


def test_an_empty_study_is_a_page(tmp_path: Path) -> None:
    write_study(_bare(), tmp_path)
    assert "0 methods were compared" in Page((tmp_path / "report.html").read_text("utf-8")).text
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["constant.csv", "constant.md"]
    assert not list((tmp_path / "figures").iterdir())


def test_one_method_with_one_seed(tmp_path: Path) -> None:
    full = study(n_seeds=1, n_methods=1)
    data = replace(_bare(), methods=full.methods, seeds=(0,), n_classes=1, roc={"micro": full.roc["micro"]})
    points = [EpochScores(1, 0.1, None)]
    data = replace(data, epochs={FUSED: points}, gates=[point for point in full.gates if point.epoch == 1][:1])
    write_study(data, tmp_path)
    shown = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert "1 method was compared" in shown
    assert "1 venue, with 1 seed." in shown
    assert "±" not in (tmp_path / "tables" / "table2-methods.md").read_text("utf-8")
    assert "**" not in (tmp_path / "tables" / "table2-methods.md").read_text("utf-8")


def test_unknown_values_are_dashes() -> None:
    nan = float("nan")
    rows = [MethodRow("nmcl", Spread(nan), Spread()), MethodRow("x", Spread(), Spread(nan), verdict_p_value=nan)]
    data = replace(
        _bare(),
        methods=rows,
        roc={"macro": {"x": Curve([0, 1], [0, 1])}},
        completion=[CompletionLevel(0.1, {"mean": CompleterScores()})],
        learning_curves=[LabelShare("x", 0.1, 3, Spread(nan), Spread(), nan)],
        epochs={"a": [EpochScores(1, None, None)]},
    )
    shown = Page(rendered(data)).text
    assert "–" in shown
    assert "nan" not in shown.lower().split()


@pytest.mark.parametrize(
    ("mean", "p_value", "standing", "words"),
    [
        (0.30, 0.01, "ahead", "ahead by 4.00 points"),
        (0.20, 0.049, "behind", "behind by 6.00 points"),
        (0.20, 0.05, "equal", "no significant difference (−6.00 points)"),
        (0.27, None, "untested", "not testable (+1.00 points)"),
        (0.27, float("nan"), "untested", "not testable (+1.00 points)"),
        (None, 0.01, "untested", "not compared"),
    ],
)
def test_verdicts(mean: float | None, p_value: float | None, standing: str, words: str) -> None:
    """They follow one test: the others do not matter."""
    against = MethodRow("nmcl", Spread(0.4), Spread(0.26))
    other = None if p_value is None else 1 - p_value
    row = MethodRow("x", Spread(0.4), Spread(mean), p_value=other, macro_p_value=other, verdict_p_value=p_value)
    assert findings.standing(row, against) == standing
    assert findings.verdict(row, against) == words
    assert findings.verdict(against, against) == "reference"
    assert findings.standings(replace(_bare(), methods=[against, row]))[findings.standing(row, against)] == ["x"]


def test_constant_answer_scores_what_scikit_learn_says() -> None:
    label = np.repeat(np.arange(4), [50, 20, 20, 10])
    expected = f1_score(label, np.zeros_like(label), average="macro", zero_division=0.0)
    assert findings.constant_macro_f1(0.5, 4) == pytest.approx(expected)
    assert f"{100 * findings.constant_macro_f1(0.1139, 188):.3f}" == "0.109"


def _last(modality: str, side: Literal["host", "guest"], is_open: float, shut: float, **more: float) -> list[GatePoint]:
    first = GatePoint(1, modality, side, 0.0, 1.0, 0.0, 0.5, 0.5, 0.5)
    return [GatePoint(2, modality, side, is_open, 1 - is_open - shut, shut, **more), first]


def test_warns_of_parts_that_do_nothing() -> None:
    def found(**changes: Any) -> str:
        return " | ".join(findings.warnings(replace(_bare(), **changes)))

    sound = _last("a", "host", 0.4, 0.4, consistent_norm=0.5, divergence=0.1)
    stuck = _last("a", "host", 0.96, 0.0, consistent_norm=0.5) + _last("a", "guest", 0.99, 0.0)
    assert found() == ""
    assert found(gates=sound) == ""
    assert "All gates are on one side. More than 95% of the gates are open in a (host) and a (guest)" in found(
        gates=stuck
    )
    some = found(gates=sound + _last("b", "guest", 0.0, 0.97))
    assert "are shut in b (guest)" in some
    assert "All gates" not in some
    assert "less than 1% of the norm in a (host)" in found(gates=_last("a", "host", 0.4, 0.4, consistent_norm=0.009))
    assert "hardly differ (below 0.001 nats) in a." in found(gates=_last("a", "host", 0.4, 0.4, divergence=4e-4))
    assert "branch text has collapsed" in found(collapse={"text": {2: 0.96, 1: 0.1}, "fine": {1: 0.99, 2: 0.3}})
    assert "fine" not in found(collapse={"text": {2: 0.96, 1: 0.1}, "fine": {1: 0.99, 2: 0.3}})


def test_the_page_warns() -> None:
    data = replace(_bare(), gates=_last("a", "host", 0.0, 0.99))
    assert "More than 95% of the gates are shut in a (host)" in Page(rendered(data)).text
    assert "Yes, as far as" in Page(rendered(replace(data, gates=_last("a", "host", 0.4, 0.4)))).text


@given(st.lists(st.floats(0, 1), max_size=8))
def test_end_labels_stay_apart_and_in_order(heights: list[float]) -> None:
    moved = apart(heights, 0.1, 0, 1)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    assert all(moved[b] - moved[a] >= 0.1 - 1e-9 for a, b in pairwise(order))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in moved)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
def test_refuses_arrays_that_do_not_fit(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"attention weights of shape .* expected \(2, 2\)"):
        AttentionMemory("a", ["x", "y"], ["f", "g"], np.ones(shape))
    with pytest.raises(ValueError, match="relation scores"):
        RelationExample("t", "x", "x", "a", ["b"], range(2), np.ones(shape), np.ones(2), np.ones(2))
