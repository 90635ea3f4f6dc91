"""`retraining.html` of a challenger, from its notes."""

from datetime import UTC, datetime
from typing import Any

from flows.challenge import Case
from flows.tables import comparison_rows, drift_rows, news_rows, venue_notes
from pipeline.report import PageTable, RetrainingData, render_retraining


def write_page(case: Case) -> None:
    """Write it anew: after drift was measured, and again when the two were compared."""
    store, run = case.store, case.run
    drift = store.read_json(f"{run}/drift.json")
    name = f"{run}/comparison.json"
    compared = store.read_json(name) if store.exists(name) else None
    verdict, reasons = _verdict(drift, compared)
    tables = [
        PageTable("What the crawls bring", news_rows(drift["news"])),
        PageTable("Drift of the new videos; by chance: the same of random deals of all videos", drift_rows(drift)),
    ]
    if compared:
        tables.insert(0, PageTable("Macro-F1 of both on the same test videos", comparison_rows(compared)))
    data = RetrainingData(
        title=f"{run} against {case.champion}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=verdict,
        reasons=reasons,
        tables=tables,
        notes=venue_notes(drift["venues"]),
        has_report=store.exists(f"{run}/report.html"),
    )
    store.write(f"{run}/retraining.html", render_retraining(data).encode())


def _verdict(drift: dict[str, Any], compared: dict[str, Any] | None) -> tuple[str, list[str]]:
    if compared:
        verdict = compared["verdict"]
        return "The challenger is promoted" if verdict["promoted"] else "The champion stays", verdict["reasons"]
    if drift["stopped"]:
        return "Stopped by drift", drift["exceeded"]
    return "In progress", []
