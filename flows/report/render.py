"""Renders the report page. Names, captions and paths are untrusted input: the page escapes them and fetches nothing."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nmcl.flows.report import charts, summary
from nmcl.flows.report import numbers as text
from nmcl.flows.report.data import ReportData

_FOLDER = Path(__file__).parent
TABLE_VENUES = 12
"""Maximum number of venues for a numeric confusion matrix; with more, it is a heat map."""


def render(data: ReportData) -> str:
    """Return the report as one HTML page that needs no other file. The same data gives the same bytes."""
    metrics, test, classes = data.metrics, data.test, data.metrics.classes
    confusion = test.confusion if test else None
    is_table = len(classes) <= TABLE_VENUES
    nrmse = metrics.completion.nrmse if metrics.completion else {}
    return render_page(
        "report.html",
        data=data,
        metrics=metrics,
        chance=summary.chance(confusion),
        interval=summary.interval(metrics.test.micro_f1, metrics.test.n_rows),
        compared=summary.compared(metrics),
        confusion=confusion,
        is_table=is_table,
        confused=summary.most_confused(confusion, classes, 6 if is_table else 20),
        gates=summary.gates(metrics.diagnostics),
        nrmse=nrmse,
        nrmse_modalities=list(dict.fromkeys(name for row in nrmse.values() for name in row)),
        total_seconds=sum(metrics.seconds.values()),
        settings=list(summary.flat(metrics.settings)),
        charts=_charts(data),
    )


def _charts(data: ReportData) -> dict[str, Markup | None]:
    """Return the charts by name; None if there is no data."""
    names = ("bars", "confusion", "roc", "loss", "micro", "macro")
    drawn: dict[str, Markup | None] = dict.fromkeys(names)
    compared, classes = summary.compared(data.metrics), data.metrics.classes
    if any(scores.micro_f1 is not None for scores in compared.values()):
        drawn["bars"] = charts.bars(compared, summary.chance(data.test.confusion if data.test else None).micro_f1)
    if data.test and len(classes) > TABLE_VENUES:
        drawn["confusion"] = charts.heat_map(data.test.confusion, classes)
    if data.test and data.test.roc:
        drawn["roc"] = charts.roc(data.test.roc)
    if data.history:
        drawn["loss"] = charts.losses(data.history)
        drawn["micro"] = charts.learning(data.history, "micro_f1")
        drawn["macro"] = charts.learning(data.history, "macro_f1")
    return drawn


def render_page(template: str, *, styles: Sequence[str] = ("style.css",), **values: Any) -> str:
    """Return a page rendered from a template and its style sheets, which are files of this folder."""
    environment = Environment(
        loader=FileSystemLoader([_FOLDER, _FOLDER / "study"]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": text.percent,
        "decimal": text.decimal,
        "number": text.count,
        "duration": text.seconds,
        "shortened": text.shortened,
        "digest": _digest,
    }
    style = Markup("\n").join(Markup((_FOLDER / name).read_text(encoding="utf-8")) for name in styles)
    return environment.get_template(template).render(style=style, **values)


def _shown(value: Any) -> Any:
    """Return the value of a template expression as displayed, before it is escaped."""
    if value is None:
        return text.DASH
    if isinstance(value, str) and not isinstance(value, Markup):
        return text.printable(value)
    return value


def _digest(script: str) -> str:
    """Return the hash of the only script that the content security policy allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}"
