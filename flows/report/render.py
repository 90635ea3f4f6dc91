"""Fills in the page. Names, captions and paths come from strangers: all is escaped, nothing is fetched."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from nmcl.flows.report import charts, summary
from nmcl.flows.report import numbers as text
from nmcl.flows.report.data import ReportData, Scores, SplitScores

_FOLDER = Path(__file__).parent
TABLE_VENUES = 12
"""Up to so many venues the confusion matrix is a table of numbers, beyond it a heat map."""


def render(data: ReportData) -> str:
    """The report as one HTML page that needs no other file. The same data gives the same bytes.

    Raises:
        ValueError: the confusion matrix is not (K, K) for the K venues.
    """
    confusion = _confusion(data)
    is_table = len(data.venues) <= TABLE_VENUES
    chance = summary.chance(confusion)
    compared = summary.compared(data.test, data.modalities, data.methods)
    return (
        environment()
        .get_template("report.html")
        .render(
            data=data,
            style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
            chance=chance,
            interval=summary.interval(data.test.micro_f1, data.test.n_rows),
            compared=compared,
            confusion=confusion,
            is_table=is_table,
            confused=summary.most_confused(confusion, tuple(data.venues), 6 if is_table else 20),
            nrmse_modalities=_nrmse_modalities(data),
            total_seconds=sum(value for value in data.seconds.values() if value is not None),
            settings=list(summary.flat(data.settings)),
            charts=_charts(data, compared, chance, confusion),
        )
    )


def _confusion(data: ReportData) -> np.ndarray | None:
    if data.confusion is None or not data.venues:
        return None
    confusion, n = np.asarray(data.confusion), len(data.venues)
    if confusion.shape != (n, n):
        raise ValueError(f"found a confusion matrix of shape {confusion.shape}, expected {(n, n)}")
    return confusion


def _charts(
    data: ReportData,
    compared: dict[str, Scores],
    chance: SplitScores,
    confusion: np.ndarray | None,
) -> dict[str, Markup | None]:
    """By name; None where there is nothing to show."""
    names = ("bars", "confusion", "roc", "loss", "micro", "macro")
    drawn: dict[str, Markup | None] = dict.fromkeys(names)
    if any(scores.micro_f1 is not None for scores in compared.values()):
        drawn["bars"] = charts.bars(compared, chance.micro_f1)
    if confusion is not None and len(data.venues) > TABLE_VENUES:
        drawn["confusion"] = charts.heat_map(confusion, data.venues)
    if data.roc:
        drawn["roc"] = charts.roc(data.roc)
    if data.history:
        drawn["loss"] = charts.losses(data.history)
        drawn["micro"] = charts.learning(data.history, "micro_f1")
        drawn["macro"] = charts.learning(data.history, "macro_f1")
    return drawn


def _nrmse_modalities(data: ReportData) -> list[str]:
    errors = data.completion.nrmse if data.completion else {}
    return list(dict.fromkeys(name for row in errors.values() for name in row))


def environment() -> Environment:
    """Where the templates are, with all that they use."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
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
        "data_uri": _data_uri,
        "digest": _digest,
    }
    return environment


def _shown(value: Any) -> Any:
    """What any expression of the template becomes before it is escaped."""
    if value is None:
        return text.DASH
    if isinstance(value, str) and not isinstance(value, Markup):
        return text.printable(value)
    return value


def _data_uri(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _digest(script: str) -> str:
    """How a content security policy names the one script that may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}"
