"""Self-contained HTML pages about one training, `render(ReportData(...))`, and about one retraining."""

from nmcl.flows.report.data import (
    Completion,
    Counts,
    Epoch,
    Example,
    Failure,
    Gate,
    ReportData,
    Scores,
    SplitScores,
    VenueRow,
)
from nmcl.flows.report.render import render
from nmcl.flows.report.retraining import PageTable, RetrainingData, render_retraining
from nmcl.model.study.results import Curve

__all__ = [
    "Completion",
    "Counts",
    "Curve",
    "Epoch",
    "Example",
    "Failure",
    "Gate",
    "PageTable",
    "ReportData",
    "RetrainingData",
    "Scores",
    "SplitScores",
    "VenueRow",
    "render",
    "render_retraining",
]
