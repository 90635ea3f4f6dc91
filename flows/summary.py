"""What a command says at its end."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows import console
from flows.bottleneck import bottleneck
from flows.listing import runs_of
from flows.service import Service, home
from flows.tables import comparison_rows, drift_rows, drift_title, news_rows, venue_notes
from pipeline import verify
from pipeline.champions import champion, history
from pipeline.errors import DriftError
from pipeline.extract import load_vectors
from pipeline.failures import Failures, load_failures
from pipeline.records import MODALITIES, SPLITS
from pipeline.store import Store
from pipeline.verify import Findings
from pipeline.words import counted

if TYPE_CHECKING:
    from flows.plan import Plan
    from pipeline.study_report.data import StudyData


def of_run(store: Store, is_new: bool = True) -> None:
    """The metrics of the latest run, and where its report is.

    Args:
        is_new: whether the command had anything to do for it.
    """
    metrics = store.read_json("latest/metrics.json")
    names = ("micro_f1", "macro_f1", "auc_micro", "auc_macro", "top5")
    rows = [("fused: test", metrics["test"]), ("fused: validation", metrics["validation"])]
    rows += [(f"{modality} alone: test", scores) for modality, scores in metrics["modality"].items()]
    console.table("Venue classification", ("", *names), [(name, *(s[n] for n in names)) for name, s in rows])
    counts = metrics["counts"]
    console.out.print(", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in counts.items()))
    for notice in metrics["notices"]:
        console.out.print(f"Note: {notice}", markup=False)
    of_champion(store)
    if not is_new:
        console.out.print("Nothing had to be done: this run was finished before.")
    elif said := bottleneck(metrics["seconds"], metrics.get("extract_seconds", {})):
        console.out.print(said, markup=False)
    console.out.print(f"Report: {store.where('latest/report.html')}", soft_wrap=True, markup=False)


def of_champion(store: Store) -> None:
    """Which run predictions come from."""
    run = champion(store)
    note = "this run" if run and store.leads("latest", run) else f"not this one: see `nmcl runs --out {store.url}`"
    console.out.print(f"Champion: {run} ({note})", soft_wrap=True, markup=False)


def of_runs(store: Store) -> None:
    """Every run, oldest first, and how the champion came to be."""
    listed = runs_of(store)
    rows = [
        (
            run["run"].removeprefix("runs/"),
            run["state"],
            _minute(run["when"]),
            run["metrics"].get("macro_f1"),
            ", ".join(run["data"]["crawls"]),
        )
        for run in listed
    ]
    console.table(f"Runs of {store.url}", ("run", "state", "when (UTC)", "macro-F1", "crawls"), rows)
    for run in listed:
        if run["is_latest"]:
            console.out.print(f"Latest: {run['run']}", soft_wrap=True, markup=False)
    for entry in history(store):
        told = f"{_minute(entry.when)} {entry.who}: {entry.run} ({entry.how}) {entry.why}"
        console.out.print(told, soft_wrap=True, markup=False)


def _minute(when: str) -> str:
    return when[:16].replace("T", " ")


def of_retraining(store: Store, outcome: dict[str, Any]) -> None:
    """What was new, how far it lies off, who won, and why."""
    if outcome["result"] == "first":
        console.out.print("There was no champion: this is the first run.")
        of_run(store)
        return
    news, run = outcome["news"], outcome["challenger"]
    if news:
        _table("What is new", news_rows(news))
    if store.exists(f"{outcome['notes']}/drift.json"):
        of_drift(store, outcome["notes"])
    if run and store.exists(f"{run}/comparison.json"):
        note = store.read_json(f"{run}/comparison.json")
        _table(f"Macro-F1 of {run} against {note['champion']}", comparison_rows(note))
        console.out.print(f"Comparison: {store.url}/{run}/retraining.html", soft_wrap=True, markup=False)
    endings = {
        "nothing": "The champion stays",
        "kept": "The champion stays, the challenger lost",
        "promoted": "Promoted",
        "rolled back": "The champion stays",
    }
    again = "" if outcome["is_new"] or outcome["result"] == "nothing" else ", as before"
    console.out.print(f"{endings[outcome['result']]}{again}: {outcome['why']}.", soft_wrap=True, markup=False)
    console.out.print(f"Champion: {outcome['champion']}", soft_wrap=True, markup=False)


def of_drift(store: Store, folder: str) -> None:
    """The figures of drift, and venues that came and went."""
    note = store.read_json(f"{folder}/drift.json")
    _table(drift_title(note), drift_rows(note))
    for text in venue_notes(note["venues"]):
        console.out.print(text, soft_wrap=True, markup=False)


@contextmanager
def drift_before_error(store: Store) -> Iterator[None]:
    """Show the figures of drift before the message that it stopped the run."""
    try:
        yield
    except DriftError as error:
        of_drift(store, error.folder)
        raise


def _table(title: str, rows: list[list[Any]]) -> None:
    console.table(title, tuple(rows[0]), [tuple(row) for row in rows[1:]])


def of_catalogue(plan: "Plan") -> None:
    """The videos that are ingested, by crawl and by venue."""
    splits = plan.splits
    for crawl in plan.catalogue.crawls:
        n_videos = counted(sum(part.n_videos for part in crawl.parts), "video")
        console.out.print(f"{crawl.name}: {n_videos} in {counted(len(crawl.parts), 'part')}", markup=False)
        for note in crawl.notes:
            console.out.print(f"  {note}", markup=False)
    counts = {venue: dict.fromkeys(SPLITS, 0) for venue in splits.venues}
    for video, assigned in zip(plan.videos, splits.assignments, strict=True):
        if assigned.split and video.venue:
            counts[video.venue][assigned.split] += 1
    rows = [(venue, *of_venue.values()) for venue, of_venue in counts.items()]
    if rows:
        console.table("Venues", ("venue", *SPLITS), rows)
    if splits.set_aside_venues:
        aside = ", ".join(f"{venue} ({n})" for venue, n in splits.set_aside_venues.items())
        console.out.print(
            f"Set aside, with fewer than {splits.settings.min_venue_videos} videos: {aside}", markup=False
        )
    for note in splits.notes:
        console.out.print(f"Note: {note}", markup=False)


def of_stage(stage: str, plan: "Plan") -> None:
    """What one stage left in the store."""
    if stage == "evaluate":
        of_run(plan.store)
    elif stage == "train":
        console.out.print(f"Model: {plan.store.where(plan.run.folder)}", soft_wrap=True, markup=False)
    elif stage == "fit":
        for modality, artifact in plan.states.items():
            console.out.print(f"{modality}: {artifact.folder}", markup=False)
    else:
        _of_vectors(plan, completed=stage == "complete")


def _of_vectors(plan: "Plan", completed: bool) -> None:
    failures = {}
    for _, part in plan.catalogue.parts():
        failures.update(load_failures(plan.store, plan.failures, part))
    rows = []
    for modality in MODALITIES:
        n_present = 0
        for _, part in plan.catalogue.parts():
            vectors = load_vectors(plan.store, plan.features[modality], part)
            n_present += int((~np.isnan(vectors)).all(axis=1).sum())
        rows.append((modality, vectors.shape[1], n_present, plan.catalogue.n_videos - n_present))
    console.table("Vectors", ("modality", "length", "extracted", "completed" if completed else "missing"), rows)
    if plan.settings.visual.weights == "random":
        console.out.print("Note: the visual network has random weights; its vectors carry little meaning.")
    if failures:
        of_failures(plan.store, failures)


def of_failures(store: Store, failures: Failures) -> None:
    """How many videos lack something because it failed, by kind, and how to see all of them."""
    kinds = Counter(failure.kind for of_video in failures.values() for failure in of_video)
    told = ", ".join(f"{kind} {n:,}" for kind, n in kinds.most_common())
    console.out.print(f"Failed: {told}. All of them: nmcl errors --out {store.url}", soft_wrap=True, markup=False)


def of_rows(rows: Sequence[Any], kind: type, form: str, title: str) -> None:
    """Records of one dataclass as `table`, `json` or `csv`."""
    header = [f.name for f in fields(kind)]
    if form == "json":
        print(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([header, *(list(asdict(row).values()) for row in rows)])
    elif rows:
        console.table(
            title, tuple(name.replace("_", " ") for name in header), [tuple(asdict(row).values()) for row in rows]
        )
    else:
        console.out.print("No failures.")


def of_verification(store: Store, findings: Findings, repaired: bool, as_json: bool) -> None:
    """What was checked, and what is wrong."""
    if as_json:
        print(json.dumps(verify.to_json(findings), indent=1, ensure_ascii=False))
        return
    console.out.print(
        "Checked: " + ", ".join(f"{n:,} {what}" for what, n in sorted(findings.checked.items())), markup=False
    )
    for note in findings.notes:
        console.note(note)
    for problem in findings.problems:
        console.out.print(f"{problem.file}: {problem.problem}", soft_wrap=True, markup=False)
        if repaired and problem.removes:
            console.out.print("    Removed: the next nmcl run makes it again.", markup=False)
        else:
            console.out.print(f"    {problem.what_to_do}", soft_wrap=True, markup=False)
    n = len(findings.problems)
    console.out.print(f"{store.url}: {counted(n, 'problem')}" if n else f"{store.url} is whole.", markup=False)


def of_service(service: Service, watched: Path | None, out: Path) -> None:
    """Where the server is, and what to do with it."""
    say = partial(console.out.print, soft_wrap=True, markup=False)
    say(f"Prefect runs at {service.ui}, its database is {service.database}; logs are in {home()}")
    if watched:
        say(f"Crawls that land in {watched} are taken up into {out}, about ten minutes later.")
    say("Deployments: extract-features, train-nmcl, retrain, sweep. In this folder, for example:")
    for command in (
        "prefect deployment run extract-features --param crawl=DIR --param out=DIR --watch",
        "nmcl announce DIR --out DIR",
        "nmcl down",
    ):
        say(f"    {command}")


def of_prediction(result: dict[str, Any], out: Path) -> None:
    """How many videos were predicted, and where the table is."""
    console.table("First guesses", ("venue", "videos"), list(result["venues"].items())[:20])
    counts = ", ".join(f"{result[name]:,} {name}" for name in ("videos", "ok", "partial", "failed"))
    console.out.print(counts)
    if scores := result["scores"]:
        console.out.print(
            f"On the {counted(scores['n_rows'], 'video')} whose venue is known: "
            f"micro-F1 {scores['micro_f1']:.3f}, macro-F1 {scores['macro_f1']:.3f}"
        )
    console.out.print(f"Predictions: {out}", soft_wrap=True, markup=False)


def of_study(data: "StudyData", out: Path) -> None:
    """The methods by their macro-F1, and where the page is."""
    header = ("method", "micro_f1", "macro_f1", "std", "p (macro)", "seconds")
    rows = [
        (row.name, row.micro_f1.mean, row.macro_f1.mean, row.macro_f1.std, row.macro_p_value, row.train_seconds)
        for row in sorted(data.methods, key=lambda row: -(row.macro_f1.mean or 0.0))
    ]
    console.table(f"Test rows, mean of {len(data.seeds)} seeds", header, rows)
    for notice in data.notices:
        console.out.print(f"Note: {notice}", markup=False)
    console.out.print(f"Report: {(out / 'report.html').absolute()}", soft_wrap=True, markup=False)
