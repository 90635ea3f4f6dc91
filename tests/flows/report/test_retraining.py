"""The page of a retraining, which shows names that strangers chose."""

from dataclasses import replace
from pathlib import Path

from nmcl.flows.report.retraining import render_retraining
from nmcl.pipeline.storage.run_files import ClassChanges
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store
from tests.pages import Page
from tests.records import COMPARISON, DIFF, DRIFT

HOSTILE = (
    "<script>alert(1)</script> \"'><img src=x onerror=alert(2)> --> ]]> \u202eevil\u202c שלום 🏖️ $x_1$ "
    "{{ 7*7 }} \x00\x1b\udcff"
)


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
