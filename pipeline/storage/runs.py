"""Runs: their files as records, which of them is the champion, and the history of champions.

`champions.json` is written atomically, oldest entry first, so history and champion cannot disagree. The link `champion`
is updated after it, for people.
"""

import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import pyarrow as pa
from annotated_types import Len

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import SPLITS, Split, Video
from nmcl.pipeline.storage.artifacts import RECIPE, read_recipe
from nmcl.pipeline.storage.catalogue import Catalogue, load_catalogue, save_catalogue
from nmcl.pipeline.storage.run_files import COUNTS, ComparisonNote, DriftNote, Metrics, ModelCard
from nmcl.pipeline.storage.shapes import RunFolder, to_json
from nmcl.pipeline.storage.store import CHAMPIONS, Store
from nmcl.pipeline.storage.tables import encode, read_table
from nmcl.pipeline.text import listed

MODEL, WEIGHTS = "model.json", "model.safetensors"
METRICS, DRIFT, COMPARISON, SETTINGS = "metrics.json", "drift.json", "comparison.json", "settings.json"
CATALOGUE, PREDICTIONS, ASSIGNED = "catalogue.json", "predictions.parquet", "splits.parquet"
REPORT, RETRAINING_REPORT = "report.html", "retraining.html"
MODEL_CARD, DATA_CARD = "README.md", "dataset.md"
PROVENANCE = "made_with.json"
_FILES: Mapping[type, str] = {Metrics: METRICS, DriftNote: DRIFT, ComparisonNote: COMPARISON}
How = Literal["first", "retrain", "promote", "rollback"]
State = Literal["champion", "former champion", "challenger", "stopped", "unfinished"]
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """Training run and its results. A file is read on first access, and then cached in memory.

    Reading raises StoreError if a file is damaged.
    """

    store: Store
    folder: str
    """`runs/NAME-ADDRESS`, or `drift/ADDRESS`: only a drift note, on new videos that no challenger is trained on."""

    @cached_property
    def metrics(self) -> Metrics | None:
        """Metrics; None before the run is evaluated, which finishes it."""
        return self._read(METRICS, Metrics)

    @cached_property
    def drift(self) -> DriftNote | None:
        """Drift note; None unless the run is a challenger trained on new videos."""
        return self._read(DRIFT, DriftNote)

    @cached_property
    def comparison(self) -> ComparisonNote | None:
        """Comparison note; None unless the run was compared with a champion."""
        return self._read(COMPARISON, ComparisonNote)

    @cached_property
    def model(self) -> ModelCard | None:
        """Card of the model; None before the run is trained."""
        return self._read(MODEL, ModelCard)

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Recipe of the run; raises StoreError if it is missing or damaged."""
        return read_recipe(self.store, self.folder)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Nested settings as written by the version that trained the run; raises StoreError if they are missing."""
        settings: dict[str, Any] = self.store.read_json(self.file(SETTINGS))
        return settings

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """Version, commit, libraries, machine and command; empty if an earlier version did not store them."""
        name = self.file(PROVENANCE)
        found: dict[str, Any] = self.store.read_json(name) if self.store.exists(name) else {}
        return found

    @cached_property
    def catalogue(self) -> Catalogue:
        """Crawls it was trained on, as they were; empty if an earlier version did not store them."""
        return load_catalogue(self.store, self.file(CATALOGUE))

    @cached_property
    def splits(self) -> dict[str, Split] | None:
        """Split of each labelled video by content hash; None if an earlier version did not store them."""
        name = self.file(ASSIGNED)
        if not self.store.exists(name):
            return None
        table = read_table(self.store, name)
        splits = dict(zip(table.column("sha256").to_pylist(), table.column("split").to_pylist(), strict=True))
        if unknown := sorted(set(splits.values()) - set(SPLITS)):
            raise self.store.damaged(name, f"the split {unknown[0]!r}")
        return splits

    @property
    def is_trained(self) -> bool:
        """Whether its model is written."""
        return self.store.exists(self.file(MODEL))

    @property
    def is_finished(self) -> bool:
        """Whether it is evaluated."""
        return self.store.exists(self.file(METRICS))

    @property
    def is_latest(self) -> bool:
        """Whether it is the newest run."""
        return self.store.leads("latest", self.folder)

    @property
    def when(self) -> str:
        """End time of its last stage, UTC; empty if there is no file."""
        files = map(self.file, (METRICS, MODEL, DRIFT, RECIPE))
        return next((self.store.modified(name) for name in files if self.store.exists(name)), "")

    @property
    def data(self) -> dict[str, Any]:
        """Training data: `crawls`, and for a finished run counts of their videos."""
        counts = {name: self.metrics.counts[name] for name in COUNTS} if self.metrics else {}
        return {"crawls": [crawl.name for crawl in self.catalogue.crawls], **counts}

    def file(self, name: str) -> str:
        """Return the name of one of its files within the store."""
        return f"{self.folder}/{name}"

    def require_metrics(self) -> Metrics:
        """Return the metrics; raise StoreError unless the run is finished."""
        if self.metrics is None:
            raise StoreError(
                f"{self.store.url}/{self.folder} is not a finished run. Repeat the command that started it."
            )
        return self.metrics

    def write(self, record: Metrics | DriftNote | ComparisonNote) -> None:
        """Write a record into its file."""
        self.store.write_json(self.file(_FILES[type(record)]), to_json(record))
        for name in ("metrics", "drift", "comparison"):
            vars(self).pop(name, None)

    def write_lineage(self, catalogue: Catalogue, splits: Sequence[tuple[Video, Split]]) -> None:
        """Write what the recipe does not hold: the crawls, and the split of each labelled video."""
        if not self.store.exists(self.file(ASSIGNED)):
            columns = {
                "video_id": pa.array([video.video_id for video, _ in splits], pa.string()),
                "crawl": pa.array([video.crawl for video, _ in splits], pa.string()),
                "sha256": pa.array([video.sha256 for video, _ in splits], pa.string()),
                "split": pa.array([split for _, split in splits], pa.string()),
            }
            self.store.write(self.file(ASSIGNED), encode(pa.table(columns)))
        save_catalogue(self.store, catalogue, self.file(CATALOGUE))

    def _read(self, name: str, kind: type[T]) -> T | None:
        return self.store.find_record(self.file(name), kind)


@dataclass(frozen=True)
class Promotion:
    """One change of the champion."""

    run: RunFolder
    before: str | None
    """Previous champion."""
    how: How
    """`first`: the first run of a store, `retrain`: a challenger that won, `promote` and `rollback`: by hand."""
    why: str
    who: str
    when: str
    """Time in UTC, ISO 8601, seconds."""
    data: Mapping[str, Any]
    """`Run.data` at that time."""
    metrics: Mapping[str, Any]
    """`test`: `Metrics.headline`."""


@dataclass(frozen=True)
class History:
    """Content of `champions.json`."""

    history: Annotated[tuple[Promotion, ...], Len(1)]
    """Promotions, oldest first."""
    champion: RunFolder

    def __post_init__(self) -> None:
        if self.champion != self.history[-1].run:
            raise ValueError(f"champion: {self.champion} is not the run of the last entry, {self.history[-1].run}")


def history(store: Store) -> tuple[Promotion, ...]:
    """Return all promotions, oldest first."""
    found = store.find_record(CHAMPIONS, History)
    return found.history if found else ()


def champion(store: Store) -> Run | None:
    """Return the run used for predictions; None before there is one."""
    entries = history(store)
    return Run(store, entries[-1].run) if entries else None


def promote(run: Run, how: How, why: str) -> Promotion:
    """Promote a run to champion, unless it is already.

    The link comes first: after an interruption the history is as before, so that the same command promotes again, and
    the next command that locks the store resets the link.

    Raises:
        StoreError: If the run is not finished.
    """
    store, metrics, entries = run.store, run.require_metrics(), history(run.store)
    store.point("champion", run.folder)
    entry = entries[-1] if entries else None
    if entry is None or entry.run != run.folder:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        before = entry.run if entry else None
        entry = Promotion(run.folder, before, how, why, _who(), now, run.data, {"test": metrics.headline})
        store.write_json(CHAMPIONS, to_json(History((*entries, entry), run.folder)))
    return entry


def rollback(store: Store) -> Promotion:
    """Return to the previous champion. Repeated rollbacks go further back.

    Raises:
        StoreError: If there is none, or its run is gone.
    """
    entries = history(store)
    stack: list[str] = []
    for entry in entries:
        if entry.how == "rollback":
            del stack[-1:]
        else:
            stack.append(entry.run)
    if len(stack) < 2:
        found = f"{entries[-1].run} is the first" if entries else "there is no champion"
        raise StoreError(f"There is no previous champion: {found}. `nmcl runs --out {store.url}` lists the runs.")
    return promote(Run(store, stack[-2]), "rollback", f"rolled back from {entries[-1].run}")


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def all_runs(store: Store) -> list[Run]:
    """Return every run of a store, finished or not, by name."""
    return [Run(store, f"runs/{name}") for name in store.list("runs")]


def find_run(store: Store, name: str) -> Run:
    """Return a run by its name, a unique prefix or address, the name of its model if unique, or `latest`.

    Raises:
        StoreError: If no run matches, or several do.
    """
    wanted = name.rstrip("/").rsplit("/", 1)[-1]
    runs = {run.folder.removeprefix("runs/"): run for run in all_runs(store)}
    if name == "latest":
        found = [run for run in runs.values() if run.is_latest]
    elif wanted in runs:
        found = [runs[wanted]]
    else:
        found = [run for n, run in runs.items() if n.rsplit("-", 1)[0] == wanted] or [
            run for n, run in runs.items() if n.startswith(wanted) or n.rsplit("-", 1)[-1].startswith(wanted)
        ]
    if len(found) != 1:
        names = listed(run.folder.removeprefix("runs/") for run in found)
        problem = f"Ambiguous run name {name}: matches {names}" if found else f"There is no run {name}"
        raise StoreError(f"{problem}. `nmcl runs --out {store.url}` lists them.")
    return found[0]


def named_run(store: Store, name: str) -> Run:
    """Return `find_run`, or the champion if that is the name. Raises StoreError if there is none."""
    if name != "champion":
        return find_run(store, name)
    best = champion(store)
    if best is None:
        raise StoreError(f"{store.url} has no champion yet. Train a model with `nmcl run`.")
    return best


def run_of(store: Store, name: str | None) -> Run | None:
    """Return the named run; else the champion, else the latest, else None."""
    if name is not None:
        return named_run(store, name)
    latest = store.target("latest")
    return champion(store) or (Run(store, latest) if latest else None)


@dataclass(frozen=True)
class ListedRun:
    """Run as listed by `nmcl runs --json`."""

    run: str
    state: State
    """`challenger`: it lost, or was never promoted; `stopped`: by drift."""
    is_latest: bool
    when: str
    who: str | None
    """User who last promoted it."""
    why: str | None
    """Reason of its last promotion, else of its comparison."""
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    """`Metrics.headline`; empty before it is finished."""
    compared_with: str | None


def list_runs(store: Store) -> list[ListedRun]:
    """Return every run of a store, oldest first."""
    entries = history(store)
    return sorted((_listed(run, entries) for run in all_runs(store)), key=lambda run: (run.when, run.run))


def _listed(run: Run, entries: tuple[Promotion, ...]) -> ListedRun:
    last = next((entry for entry in reversed(entries) if entry.run == run.folder), None)
    note = run.comparison
    if last:
        state: State = "champion" if entries[-1].run == run.folder else "former champion"
    elif run.is_finished:
        state = "challenger"
    else:
        state = "stopped" if run.drift and run.drift.stopped else "unfinished"
    return ListedRun(
        run=run.folder,
        state=state,
        is_latest=run.is_latest,
        when=run.when,
        who=last.who if last else None,
        why=last.why if last else "; ".join(note.verdict.reasons) if note else None,
        data=run.data,
        metrics=run.metrics.headline if run.metrics else {},
        compared_with=note.champion if note else None,
    )
