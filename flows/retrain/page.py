"""`retraining.html` of a challenger, or of videos from which none learns, from its notes."""

from datetime import UTC, datetime
from typing import Any

from nmcl.flows.report import PageTable, RetrainingData, render_retraining
from nmcl.flows.retrain.context import Case
from nmcl.flows.run.tables import (
    comparison_rows,
    drift_rows,
    drift_title,
    news_rows,
    venue_notes,
)
from nmcl.pipeline.storage import shapes


def write_page(case: Case) -> None:
    """Write it anew: after drift was measured, and again when the two were compared."""
    store, folder = case.store, case.notes
    drift = store.read_json(f"{folder}/drift.json", shapes.Drift)
    name = f"{folder}/comparison.json"
    compared = store.read_json(name, shapes.Comparison) if store.exists(name) else None
    verdict, reasons = _verdict(drift, compared, is_challenged=folder == case.run)
    tables = [
        PageTable("What the crawls bring", news_rows(drift["news"])),
        PageTable("Drift of the new videos; by chance: the same of random deals of all videos", drift_rows(drift)),
    ]
    if compared:
        tables.insert(0, PageTable("Macro-F1 of both on the same test videos", comparison_rows(compared)))
    data = RetrainingData(
        title=f"{case.run} against {case.champion}" if folder == case.run else drift_title(drift),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=verdict,
        reasons=reasons,
        tables=tables,
        notes=venue_notes(drift["venues"]),
        has_report=store.exists(f"{folder}/report.html"),
    )
    store.write(f"{folder}/retraining.html", render_retraining(data).encode())


def _verdict(drift: dict[str, Any], compared: dict[str, Any] | None, is_challenged: bool) -> tuple[str, list[str]]:
    if compared:
        verdict = compared["verdict"]
        return "The challenger is promoted" if verdict["promoted"] else "The champion stays", verdict["reasons"]
    if drift["stopped"]:
        return "Stopped by drift", drift["exceeded"]
    return ("In progress" if is_challenged else "The champion stays: no challenger learns from the new videos"), []
