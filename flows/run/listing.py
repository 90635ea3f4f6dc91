"""The runs of a store and the history of its champions."""

import json
from dataclasses import asdict
from typing import Any

from nmcl.flows.run.champion import data_of, scores_of
from nmcl.pipeline.storage import champions, shapes
from nmcl.pipeline.storage.store import Store


def runs_of(store: Store) -> list[dict[str, Any]]:
    """Every run of a store, oldest first: what it is, what it was trained on and what it scored.

    `state`: `champion`, `former champion`, `challenger` (it lost, or nobody promoted it), `stopped` (by drift) or
    `unfinished`.
    """
    entries = champions.history(store)
    found = [_run(store, f"runs/{name}", entries) for name in store.list("runs")]
    return sorted(found, key=lambda run: (run["when"], run["run"]))


def _run(store: Store, folder: str, entries: list[champions.Entry]) -> dict[str, Any]:
    verdict = _note(store, f"{folder}/comparison.json", shapes.Comparison)
    changes = [entry for entry in entries if entry.run == folder]
    scores = scores_of(store, folder)
    return {
        "run": folder,
        "state": _state(store, folder, bool(scores), entries),
        "is_latest": store.leads("latest", folder),
        "when": _when(store, folder),
        "who": changes[-1].who if changes else None,
        "why": changes[-1].why if changes else "; ".join(verdict["verdict"]["reasons"]) if verdict else None,
        "data": data_of(store, folder),
        "metrics": scores,
        "compared_with": verdict.get("champion"),
    }


def _state(store: Store, folder: str, is_finished: bool, entries: list[champions.Entry]) -> str:
    if entries and entries[-1].run == folder:
        return "champion"
    if any(entry.run == folder for entry in entries):
        return "former champion"
    if is_finished:
        return "challenger"
    return "stopped" if _note(store, f"{folder}/drift.json", shapes.Drifted).get("stopped") else "unfinished"


def _when(store: Store, folder: str) -> str:
    """When the run's last stage was done, UTC."""
    files = [f"{folder}/{name}" for name in ("metrics.json", "model.json", "drift.json", "recipe.json")]
    return next((store.modified(name) for name in files if store.exists(name)), "")


def _note(store: Store, name: str, kind: Any) -> dict[str, Any]:
    note: dict[str, Any] = store.read_json(name, kind) if store.exists(name) else {}
    return note


def as_json(store: Store) -> str:
    """Runs and the history of champions, for programs. ASCII: a terminal takes no part of it for a command."""
    listed = {"champion": champions.champion(store), "runs": runs_of(store)}
    changes = [asdict(entry) for entry in champions.history(store)]
    return json.dumps({**listed, "history": changes}, indent=1)
