"""One self-contained HTML page about one training: `render(ReportData(...))`."""

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

__all__ = [
    "Completion",
    "Counts",
    "Curve",
    "Epoch",
    "Example",
    "Failure",
    "Gate",
    "ReportData",
    "Scores",
    "SplitScores",
    "VenueRow",
    "render",
]
