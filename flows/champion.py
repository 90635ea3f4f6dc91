"""The champion of a store, chosen by hand; and whether a retraining has anything left to do."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows import stages
from flows.challenge import Options, prepare, settings_for
from flows.retraining import settled
from flows.settings import Tree, merged
from flows.sources import crawls_of
from flows.stages import Context, crown
from pipeline import champions
from pipeline.catalogue import load_catalogue
from pipeline.crawl_source import crawl_source
from pipeline.errors import StoreError
from pipeline.store import Store


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
        told = f"Several runs are called {name}: {', '.join(found)}" if found else f"No run is called {name}"
        raise StoreError(f"{told}. `nmcl runs --out {store.url}` lists them.")
    _require_finished(store, f"runs/{found[0]}")
    return f"runs/{found[0]}"


def _require_finished(store: Store, run: str) -> None:
    if not store.exists(f"{run}/metrics.json"):
        raise StoreError(f"{store.url}/{run} is not a finished run. The command that began it completes it.")


def already_settled(
    context: Context, crawl: str | Path | None, changes: Tree, *, warm_start: bool, refit: bool, allow_drift: bool
) -> dict[str, Any] | None:
    """How a retraining ended, if there is nothing left to do. Looks at a crawl only if it was ingested before."""
    store = context.store
    known = {known.folder for known in load_catalogue(store).crawls}
    if champions.champion(store) is None or (crawl and crawl_source(crawl).address not in known):
        return None
    options = Options(warm_start, refit)
    context = settings_for(context, merged(changes, {"drift": {"stop": False}} if allow_drift else {}), options)
    for folder in crawls_of(str(crawl) if crawl else None, store, context.progress):
        stages.ingest(context, folder)
    outcome = settled(prepare(context, [crawl] if crawl else None, options))
    return asdict(outcome) if outcome else None
