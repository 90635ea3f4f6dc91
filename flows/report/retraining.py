"""The page about one retraining: what was new, how far it lies off, and who won."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nmcl.flows.report.render import environment

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PageTable:
    """Texts in rows; the first row is the header."""

    caption: str
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class RetrainingData:
    """All that the page tells."""

    title: str
    created: str
    """Shown as it is."""
    verdict: str
    reasons: Sequence[str]
    tables: Sequence[PageTable]
    notes: Sequence[str] = ()
    has_report: bool = True
    """Whether the challenger's own report lies beside the page."""


def render_retraining(data: RetrainingData) -> str:
    """One HTML page that needs no other file. The same data gives the same bytes."""
    style = Markup((_FOLDER / "style.css").read_text(encoding="utf-8"))
    return environment().get_template("retraining.html").render(data=data, style=style)
