"""The champion of a store: how a run becomes it, and how a person chooses it."""

from typing import Any

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage import champions
from nmcl.pipeline.storage.catalogue import load_catalogue
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import listed


def crown(store: Store, run: str, how: champions.How, why: str) -> champions.Entry:
    """Make a finished run the champion, with what it was trained on and what it scored in the history."""
    return champions.promote(store, run, how, why, data_of(store, run), {"test": scores_of(store, run)})


def data_of(store: Store, run: str) -> dict[str, Any]:
    """What a run was trained on: its crawls, and counts of their videos as far as it is finished."""
    noted = load_catalogue(store, f"{run}/catalogue.json")
    counts = ("videos", "train", "validation", "test", "unlabelled")
    metrics = _metrics(store, run)
    return {"crawls": [c.name for c in noted.crawls]} | {name: metrics["counts"][name] for name in counts if metrics}


def scores_of(store: Store, run: str) -> dict[str, Any]:
    """What a run scored on its test videos; empty before it is finished."""
    metrics = _metrics(store, run)
    return {name: metrics["test"][name] for name in ("macro_f1", "micro_f1", "n_rows") if metrics}


def _metrics(store: Store, run: str) -> dict[str, Any]:
    metrics: dict[str, Any] = store.read_json(f"{run}/metrics.json") if store.exists(f"{run}/metrics.json") else {}
    return metrics


def promote(store: Store, name: str) -> str:
    """Make a run the champion. Returns what to say.

    Raises:
        StoreError: no run or several are called so, or it is not finished.
    """
    run = _named(store, name)
    before = champions.champion(store)
    if run == before:
        return f"{run} is the champion already."
    crown(store, run, "promote", "by hand")
    return f"Champion: {run}, before it {before or 'none'}."


def rollback(store: Store) -> str:
    """Return to the champion that the present one displaced. Returns what to say.

    Raises:
        StoreError: there is none.
    """
    entries = champions.history(store)
    run = champions.predecessor(entries)
    if run is None:
        found = f"{entries[-1].run} is the first" if entries else "there is no champion"
        raise StoreError(f"Nothing to return to: {found}. `nmcl runs --out {store.url}` lists the runs.")
    _require_finished(store, run)
    crown(store, run, "rollback", f"rolled back from {entries[-1].run}")
    return f"Champion: {run}, rolled back from {entries[-1].run}."


def _named(store: Store, name: str) -> str:
    wanted = name.rstrip("/").rsplit("/", 1)[-1]
    runs = store.list("runs")
    if name == "latest":
        runs = [run for run in runs if store.leads("latest", f"runs/{run}")]
        wanted = ""
    beginning = [run for run in runs if run.startswith(wanted) or run.rsplit("-", 1)[-1].startswith(wanted)]
    found = [wanted] if wanted in runs else beginning
    if len(found) != 1:
        problem = f"Several runs are called {name}: {listed(found)}" if found else f"No run is called {name}"
        raise StoreError(f"{problem}. `nmcl runs --out {store.url}` lists them.")
    _require_finished(store, f"runs/{found[0]}")
    return f"runs/{found[0]}"


def _require_finished(store: Store, run: str) -> None:
    if not store.exists(f"{run}/metrics.json"):
        raise StoreError(f"{store.url}/{run} is not a finished run. The command that began it completes it.")
