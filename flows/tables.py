"""Drift, comparisons and runs as rows for tables, whoever draws them. The first row is the header."""

import json
from dataclasses import asdict
from typing import Any

from pipeline import champions
from pipeline.store import Store

Row = list[Any]


def drift_title(note: dict[str, Any]) -> str:
    """Of a `drift.json`: what was measured against what."""
    names = [news["crawl"] for news in note["news"] if news["n_videos"]]
    return f"Drift of {', '.join(names) or 'no new videos'} against {note['champion']}"


def drift_rows(note: dict[str, Any]) -> list[Row]:
    """Of a `drift.json`; the limit is what the value may not exceed."""
    rows: list[Row] = [["figure", "value", "by chance", "limit", "p", "verdict"]]
    for subject, figures in note["figures"].items():
        for name, f in figures.items():
            limit = f["limit"] + (f["by_chance"] or 0.0)
            verdict = "exceeded" if f["exceeded"] else "ok" if f["value"] is not None else "too few"
            numbers = [_short(value) for value in (f["value"], f["by_chance"], limit, f["p_value"])]
            rows.append([f"{subject} {name.replace('_', ' ')}", *numbers, verdict])
    return rows


def venue_notes(venues: dict[str, list[str]]) -> list[str]:
    """Venues that came and went, in words."""
    told = {
        "learnt_anew": "New venues, learnt",
        "too_few": "Venues with too few videos to be learnt",
        "not_seen": "Venues that the new videos do not show, kept",
        "dropped": "Venues with too few videos left, dropped",
    }
    return [f"{text}: {', '.join(venues[name])}" for name, text in told.items() if venues[name]]


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
    interval = "{:.3f} {:.3f}".format(*s["interval"]) if s["interval"] else "–"
    gain = "–" if s["gain"] is None else f"{s['gain']:+.3f}"
    won = f"{s['wins']}:{s['losses']}"
    return [f"{name} ({s['n_rows']:,})", *scores, gain, interval, won, _short(s["p_value"])]


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def runs_of(store: Store) -> list[dict[str, Any]]:
    """Every run of a store, oldest first: what it is, what it was trained on and what it scored.

    `state`: `champion`, `former champion`, `challenger` (it lost, or nobody promoted it), `stopped` (by drift) or
    `unfinished`.
    """
    entries = champions.history(store)
    found = [_run(store, f"runs/{name}", entries) for name in store.list("runs")]
    return sorted(found, key=lambda run: (run["when"], run["run"]))


def _run(store: Store, folder: str, entries: list[champions.Entry]) -> dict[str, Any]:
    metrics = _note(store, f"{folder}/metrics.json")
    verdict = _note(store, f"{folder}/comparison.json")
    changes = [entry for entry in entries if entry.run == folder]
    kept = ("videos", "train", "validation", "test", "unlabelled")
    crawls = _note(store, f"{folder}/catalogue.json").get("crawls", [])
    state = _state(store, folder, bool(metrics), entries)
    return {
        "run": folder,
        "state": state,
        "is_latest": store.leads("latest", folder),
        "when": _when(store, folder),
        "who": changes[-1].who if changes else None,
        "why": changes[-1].why if changes else "; ".join(verdict["verdict"]["reasons"]) if verdict else None,
        "data": {"crawls": [c["name"] for c in crawls]} | {k: metrics["counts"][k] for k in kept if metrics},
        "metrics": {k: metrics["test"][k] for k in ("macro_f1", "micro_f1", "n_rows")} if metrics else {},
        "compared_with": verdict.get("champion"),
    }


def _state(store: Store, folder: str, is_finished: bool, entries: list[champions.Entry]) -> str:
    if entries and entries[-1].run == folder:
        return "champion"
    if any(entry.run == folder for entry in entries):
        return "former champion"
    if is_finished:
        return "challenger"
    return "stopped" if _note(store, f"{folder}/drift.json").get("stopped") else "unfinished"


def _when(store: Store, folder: str) -> str:
    """When the run's last stage was done, UTC."""
    files = [f"{folder}/{name}" for name in ("metrics.json", "model.json", "drift.json", "recipe.json")]
    return next((store.modified(name) for name in files if store.exists(name)), "")


def _note(store: Store, name: str) -> dict[str, Any]:
    note: dict[str, Any] = store.read_json(name) if store.exists(name) else {}
    return note


def as_json(store: Store) -> str:
    """Runs and the history of champions, for programs."""
    listed = {"champion": champions.champion(store), "runs": runs_of(store)}
    changes = [asdict(entry) for entry in champions.history(store)]
    return json.dumps({**listed, "history": changes}, indent=1, ensure_ascii=False)
