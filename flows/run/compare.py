"""Comparison of two runs of a store on the test videos of both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmcl.model.comparison import compare
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.records import Split
from nmcl.pipeline.storage.lineage import made_from
from nmcl.pipeline.storage.run_files import Slice
from nmcl.pipeline.storage.runs import PREDICTIONS, Run
from nmcl.pipeline.storage.tables import read_table
from nmcl.pipeline.text import counted

MACHINE = ("engine",)
"""Sections of the settings that decide nothing about the result."""


@dataclass(frozen=True)
class Answer:
    """A test video that only one of the runs gets right."""

    video_id: str
    crawl: str
    label: str
    first: str
    """Label that the first run predicts."""
    second: str
    right: str
    """`first` or `second`."""


@dataclass(frozen=True)
class Difference:
    """A setting or a feature set that differs; None where a run does not have it."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True)
class RunComparison:
    """Two runs on the test videos of both."""

    first: str
    """Folder of the run."""
    second: str
    n_rows: int
    """Number of test videos of both runs, each content once, with the same label."""
    scores: Mapping[str, Mapping[str, float | None]]
    """By `first` and `second`: `micro_f1`, `macro_f1`."""
    gain: float | None
    """Macro-F1 of the second minus that of the first."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval of the gain."""
    n_only_first: int
    """Number of videos that only the first gets right."""
    n_only_second: int
    p_value: float | None
    """Of McNemar's exact test, two-sided; None if the runs are right on the same videos: nothing to test."""
    answers: tuple[Answer, ...]
    settings: tuple[Difference, ...]
    features: tuple[Difference, ...]
    """Feature sets by name, with the address of their vectors."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Tested:
    """A test video of one run."""

    video_id: str
    crawl: str
    label: str
    predicted: str


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Compare two finished runs.

    Raises:
        StoreError: If a run is not finished or did not store its splits, or they have no test video in common.
        UserError: If both are the same run.
    """
    if first.folder == second.folder:
        raise UserError(
            f"{first.folder} is named twice. Name two runs; `nmcl runs --out {first.store.url}` lists them."
        )
    tested, tested_too = _tested(first), _tested(second)
    common = [sha256 for sha256 in tested if sha256 in tested_too]
    same = [sha256 for sha256 in common if tested[sha256].label == tested_too[sha256].label]
    if not same:
        raise StoreError(
            f"{first.folder} and {second.folder} have no test video in common. Compare runs with the same splits, such "
            "as a run and its retraining."
        )
    rows = [(tested[sha256], tested_too[sha256].predicted) for sha256 in same]
    found = _slice(rows)
    return RunComparison(
        first=first.folder,
        second=second.folder,
        n_rows=len(rows),
        scores={"first": found.champion, "second": found.challenger},
        gain=found.gain,
        interval=found.interval,
        n_only_first=found.losses,
        n_only_second=found.wins,
        p_value=found.p_value if found.wins + found.losses else None,
        answers=tuple(_answers(rows)),
        settings=tuple(_changed(_flat(first.settings), _flat(second.settings))),
        features=tuple(_differences(_addresses(first), _addresses(second))),
        notes=tuple(_notes(first, second, tested, tested_too, len(common), len(same))),
    )


def _tested(run: Run) -> dict[str, _Tested]:
    """Return the test videos of a run by content hash; of copies only the first."""
    run.require_metrics()
    if run.splits is None or not run.catalogue.crawls:
        raise StoreError(f"{run.folder} does not record which videos it was tested on: an earlier version wrote it.")
    table, videos = read_table(run.store, run.file(PREDICTIONS)), run.catalogue.videos(run.store)
    if table.column("video_id").to_pylist() != [video.video_id for video in videos]:
        raise run.store.damaged(run.file(PREDICTIONS), "its rows are not the videos of the run")
    found: dict[str, _Tested] = {}
    for video, predicted in zip(videos, table.column("venue_1").to_pylist(), strict=True):
        if video.venue and predicted is not None and run.splits.get(video.sha256) == "test":
            found.setdefault(video.sha256, _Tested(video.video_id, video.crawl, video.venue, predicted))
    return found


def _slice(rows: list[tuple[_Tested, str]]) -> Slice:
    names = sorted({name for one, other in rows for name in (one.label, one.predicted, other)})
    index = {name: number for number, name in enumerate(names)}
    label, predicted, predicted_too = (
        np.array([index[name] for name in column])
        for column in zip(*((one.label, one.predicted, other) for one, other in rows), strict=True)
    )
    return compare(label, predicted, predicted_too)


def _answers(rows: list[tuple[_Tested, str]]) -> Iterator[Answer]:
    for one, other in rows:
        if (one.predicted == one.label) != (other == one.label):
            right = "first" if one.predicted == one.label else "second"
            yield Answer(one.video_id, one.crawl, one.label, one.predicted, other, right)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their full names, without those of the machine."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif not prefix.startswith(tuple(f"{section}." for section in MACHINE)):
            found[f"{prefix}{name}"] = value
    return found


def _addresses(run: Run) -> dict[str, str]:
    """Return the addresses of the vectors that a run was trained on, by feature set."""
    return {name: artifact.address for name, artifact in made_from(run).features.items()}


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield Difference(name, first.get(name), second.get(name))


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield the settings that differ; of two models only those that both have."""
    is_same_model = first.get("model.name") == second.get("model.name")
    for found in _differences(first, second):
        if is_same_model or not found.name.startswith("model.") or {found.name} <= first.keys() & second.keys():
            yield found


def _notes(
    first: Run,
    second: Run,
    tested: Mapping[str, _Tested],
    tested_too: Mapping[str, _Tested],
    n_common: int,
    n_same: int,
) -> Iterator[str]:
    for run, own, other in ((first, tested, second), (second, tested_too, first)):
        splits: Mapping[str, Split] = other.splits or {}
        n_seen = sum(splits.get(sha256) in ("train", "validation") for sha256 in own)
        if n_seen:
            yield (
                f"{counted(n_seen, 'test video')} of {run.folder} left out: {other.folder} was trained or tuned on "
                f"{'it' if n_seen == 1 else 'them'}."
            )
        n_others = len(own) - n_common - n_seen
        if n_others:
            yield f"{counted(n_others, 'test video')} of {run.folder} left out: {other.folder} was not tested on them."
    if n_common > n_same:
        yield f"{counted(n_common - n_same, 'test video')} left out: the label has changed between the runs."
