"""Drift and comparisons as rows for tables, whoever draws them. The first row is the header."""

from typing import Any

from nmcl.pipeline.text import listed

Row = list[Any]
N_VENUES = 20
"""Named of those that came, and of those that went."""


def drift_title(note: dict[str, Any]) -> str:
    """Of a `drift.json`: what was measured against what."""
    names = [news["crawl"] for news in note["news"] if news["n_videos"]]
    return f"Drift of {listed(names) or 'no new videos'} against {note['champion']}"


def drift_rows(note: dict[str, Any]) -> list[Row]:
    """Of a `drift.json`; the limit is what the value may not exceed. There is no verdict on fewer than `min_rows`."""
    rows: list[Row] = [["figure", "value", "by chance", "limit", "p", "verdict"]]
    for subject, figures in note["figures"].items():
        for name, f in figures.items():
            limit = f["limit"] + (f["by_chance"] or 0.0)
            enough = min(f["n_reference"], f["n_new"]) >= note["settings"]["min_rows"]
            verdict = "exceeded" if f["exceeded"] else "ok" if enough else "too few"
            numbers = [_short(value) for value in (f["value"], f["by_chance"], limit, f["p_value"])]
            rows.append([f"{subject} {name.replace('_', ' ')}", *numbers, verdict])
    return rows


def venue_notes(venues: dict[str, list[str]]) -> list[str]:
    """Venues that came and went, in words."""
    texts = {
        "learnt_anew": "New venues, learnt",
        "too_few": "Venues with too few videos to be learnt",
        "not_seen": "Venues that the new videos do not show, kept",
        "dropped": "Venues with too few videos left, dropped",
    }
    return [f"{text}: {listed(venues[name], N_VENUES)}" for name, text in texts.items() if venues[name]]


def news_rows(news: list[dict[str, Any]]) -> list[Row]:
    """Of the crawls of a retraining."""
    header = ["crawl", "new videos", "labelled", "known", "renamed", "relabelled"]
    names = ("n_videos", "n_labelled", "n_known", "n_renamed", "n_relabelled")
    return [header, *([n["crawl"], *(n[name] for name in names)] for n in news)]


def comparison_rows(note: dict[str, Any]) -> list[Row]:
    """Of a `comparison.json`: macro-F1, and how many videos only the challenger and only the champion got."""
    header = ["test videos", "champion", "challenger", "gain", "95 % of it", "won", "p"]
    names = {"frozen": "frozen", "fresh": "fresh", "together": "both"}
    return [header, *(_slice_row(name, note["comparison"][key]) for key, name in names.items())]


def _slice_row(name: str, s: dict[str, Any]) -> Row:
    scores = [_short(s[who].get("macro_f1")) for who in ("champion", "challenger")]
    interval = "{:+.3f}…{:+.3f}".format(*s["interval"]) if s["interval"] else "–"
    gain = "–" if s["gain"] is None else f"{s['gain']:+.3f}"
    won = f"{s['wins']}:{s['losses']}"
    return [f"{name} ({s['n_rows']:,})", *scores, gain, interval, won, _short(s["p_value"])]


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
