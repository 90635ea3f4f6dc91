"""Renders the page of a study. Names are untrusted input: all is escaped, nothing is fetched."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from nmcl.flows.report import summary
from nmcl.flows.report.numbers import finite
from nmcl.flows.report.render import _FOLDER as _RUN_REPORT
from nmcl.flows.report.render import environment as _run_environment
from nmcl.flows.report.study import findings
from nmcl.flows.report.study.style import Drawing
from nmcl.flows.report.study.table import Table
from nmcl.model.study.results import StudyData, Trial

_FOLDER = Path(__file__).parent


def page(data: StudyData, tables: Iterable[Table], drawings: Iterable[Drawing]) -> str:
    """Return the study as one HTML page that needs no other file. The same data give the same bytes."""
    return (
        _environment()
        .get_template("study.html")
        .render(
            data=data,
            style=_style(),
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
    )


def _best(data: StudyData) -> str | None:
    """Return the method with the highest macro-F1."""
    known = {row.name: mean for row in data.methods if (mean := finite(row.macro_f1.mean)) is not None}
    return max(known, key=lambda name: known[name]) if known else None


def _style() -> Markup:
    """Return the style sheet of the run report and the additions for a study."""
    sheets = (_RUN_REPORT / "style.css", _FOLDER / "study.css")
    return Markup("\n").join(Markup(sheet.read_text(encoding="utf-8")) for sheet in sheets)


def _environment() -> Environment:
    """Return the Jinja environment of the run report, with its escaping and its templates."""
    folders = FileSystemLoader([_FOLDER, _RUN_REPORT])
    environment: Environment = _run_environment().overlay(loader=folders)
    environment.filters["trial"] = _trial
    return environment


def _trial(trial: Trial) -> str:
    """Return the settings on one line."""
    values: dict[str, Any] = dict(trial.settings)
    return ", ".join(f"{name} = {value}" for name, value in summary.flat(values)) or "defaults"
