"""Self-contained HTML pages about one training, `render(ReportData(...))`, and about one retraining."""

from pipeline.report.data import (
    Completion,
    Counts,
    Curve,
    Epoch,
    Example,
    Failure,
    Gate,
    ReportData,
    Scores,
    SplitScores,
    VenueRow,
)
from pipeline.report.render import render
from pipeline.report.retraining import PageTable, RetrainingData, render_retraining

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
