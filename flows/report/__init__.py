"""Self-contained HTML reports: `render(ReportData(...))` for a training, `render_retraining(run)` for a retraining."""

from nmcl.flows.report.data import Example, ReportData
from nmcl.flows.report.render import render
from nmcl.flows.report.retraining import render_retraining

__all__ = ["Example", "ReportData", "render", "render_retraining"]
