"""Renders the page of a study. Names are untrusted input: the page escapes them and fetches nothing."""

from collections.abc import Iterable

from nmcl.flows.report import summary
from nmcl.flows.report.numbers import finite
from nmcl.flows.report.render import render_page
from nmcl.flows.report.study import findings
from nmcl.flows.report.study.style import Drawing
from nmcl.flows.report.study.table import Table
from nmcl.model.study.results import StudyData, Trial


def page(data: StudyData, tables: Iterable[Table], drawings: Iterable[Drawing]) -> str:
    """Return the study as one HTML page that needs no other file. The same data gives the same bytes."""
    return render_page(
        "study.html",
        styles=("style.css", "study/study.css"),
        data=data,
        setting_text=_setting_text,
        reference=findings.reference(data),
        best=_best(data),
        standings=findings.standings(data),
        warnings=list(findings.warnings(data)),
        paper_share=findings.PAPER_TOP_SHARE,
        paper_venues=findings.PAPER_VENUES,
        constant=findings.constant_macro_f1(findings.PAPER_TOP_SHARE, findings.PAPER_VENUES),
        tables={table.name: table for table in tables},
        figures={drawing.name: drawing.inline() for drawing in drawings},
        settings=list(summary.flat(data.settings)),
    )


def _best(data: StudyData) -> str | None:
    """Return the method with the highest macro-F1."""
    known = {row.name: mean for row in data.methods if (mean := finite(row.macro_f1.mean)) is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _setting_text(trial: Trial) -> str:
    """Return the settings on one line."""
    return ", ".join(f"{name} = {value}" for name, value in summary.flat(trial.settings)) or "defaults"
