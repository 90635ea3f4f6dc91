"""Summaries that commands print when they finish."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nmcl.flows import console
from nmcl.flows.service.service import Service, home, is_clone, working_folder
from nmcl.pipeline.errors import DriftError
from nmcl.pipeline.escape import csv_text
from nmcl.pipeline.export.registry import format_of
from nmcl.pipeline.records import SPLITS
from nmcl.pipeline.stages.vectors import load_vectors
from nmcl.pipeline.storage.catalogue import load_catalogue
from nmcl.pipeline.storage.failures import Failures, load_failures
from nmcl.pipeline.storage.runs import REPORT, RETRAINING_REPORT, Run, champion, history, list_runs
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import counted, listed

if TYPE_CHECKING:
    from nmcl.flows.retrain.retrain import Outcome
    from nmcl.flows.run.export import ExportRequest
    from nmcl.flows.run.plan import Plan
    from nmcl.model.study.paired import PairedRow
    from nmcl.model.study.results import StudyData
    from nmcl.pipeline.export.record import Export, Written
    from nmcl.pipeline.stages.verify import Findings


def of_run(store: Store, is_new: bool = True) -> None:
    """Print the metrics of the latest run, and the location of its report.

    Args:
        is_new: Whether the command did any work for this run.
    """
    metrics = Run(store, "latest").require_metrics()
    names = ("micro_f1", "macro_f1", "auc_micro", "auc_macro", "top5")
    rows = [("fused: test", metrics.test), ("fused: validation", metrics.validation)]
    rows += [(f"{modality} alone: test", scores) for modality, scores in metrics.modalities.items()]
    console.table("Venue classification", ("", *names), [(name, *(getattr(s, n) for n in names)) for name, s in rows])
    console.say(", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in metrics.counts.items()))
    for notice in metrics.notices:
        console.say(f"Note: {notice}")
    for crawl in load_catalogue(store).crawls:
        for note in crawl.notes:
            console.say(f"{crawl.name}: {note}")
    of_champion(store)
    if not is_new:
        console.say("Nothing to do: this run is already finished.")
    else:
        from nmcl.flows.report.bottleneck import bottleneck  # imports matplotlib

        if said := bottleneck(metrics.seconds, metrics.extract_seconds):
            console.say(said)
    console.say(f"Report: {store.where(f'latest/{REPORT}')}")


def of_champion(store: Store) -> None:
    """Print which run is used for predictions."""
    run = champion(store)
    note = "this run" if run and run.is_latest else f"not this run; see `nmcl runs --out {store.url}`"
    console.say(f"Champion: {run.folder if run else None} ({note})")


def of_runs(store: Store, as_json: bool = False) -> None:
    """Print every run, oldest first, and the history of champions."""
    found, entries, best = list_runs(store), history(store), champion(store)
    if as_json:  # ASCII only, so that a terminal interprets no part of it
        tree = {"champion": best.folder if best else None, "runs": found, "history": entries}
        console.write(json.dumps(tree, indent=1, default=asdict))
        return
    rows = [
        (
            run.run.removeprefix("runs/"),
            run.state,
            _minute(run.when),
            run.metrics.get("macro_f1"),
            listed(run.data["crawls"]),
        )
        for run in found
    ]
    console.table(f"Runs of {store.url}", ("run", "state", "when (UTC)", "macro-F1", "crawls"), rows)
    for run in found:
        if run.is_latest:
            console.say(f"Latest: {run.run}")
    for entry in entries:
        console.say(f"{_minute(entry.when)} {entry.who}: {entry.run} ({entry.how}) {entry.why}")


def _minute(when: str) -> str:
    return when[:16].replace("T", " ")


def of_retraining(store: Store, outcome: "Outcome") -> None:
    """Print what was new, its drift, and the comparison with its reasons."""
    from nmcl.flows.report.retraining import changed_rows, changed_title, comparison_rows, diff_rows

    if outcome.result == "first":
        console.say("There was no champion: this is the first run.")
        of_run(store)
        return
    if outcome.diffs:
        _table("What is new", diff_rows(outcome.diffs))
    if outcome.notes:
        of_drift(Run(store, outcome.notes))
    run = Run(store, outcome.challenger) if outcome.challenger else None
    if run and run.comparison:
        _table(f"Macro-F1 of {run.folder} against {run.comparison.champion}", comparison_rows(run.comparison))
        if run.comparison.comparison.changed:
            _table(changed_title(run.comparison), changed_rows(run.comparison))
        console.say(f"Comparison: {store.url}/{run.file(RETRAINING_REPORT)}")
    endings = {
        "nothing": "The champion stays",
        "kept": "The challenger lost, the champion stays",
        "promoted": "Promoted",
        "rolled back": "The champion stays",
    }
    again = "" if outcome.is_new or outcome.result == "nothing" else ", as before"
    console.say(f"{endings[outcome.result]}{again}: {outcome.why}.")
    console.say(f"Champion: {outcome.champion}")


def of_drift(run: Run) -> None:
    """Print the drift figures, if drift was measured, and the classes that were added and dropped."""
    from nmcl.flows.report.retraining import class_notes, drift_rows, drift_title

    if run.drift:
        _table(drift_title(run.drift), drift_rows(run.drift))
        for text in class_notes(run.drift.classes):
            console.say(text)


@contextmanager
def drift_before_error(store: Store) -> Iterator[None]:
    """Print the drift figures before the error that drift raised."""
    try:
        yield
    except DriftError as error:
        of_drift(Run(store, error.folder))
        raise


def _table(title: str, rows: list[list[Any]]) -> None:
    console.table(title, tuple(rows[0]), [tuple(row) for row in rows[1:]])


def of_catalogue(plan: "Plan") -> None:
    """Print the ingested videos by crawl and by venue."""
    splits = plan.splits
    for crawl in plan.catalogue.crawls:
        n_videos = counted(sum(part.n_videos for part in crawl.parts), "video")
        console.say(f"{crawl.name}: {n_videos} in {counted(len(crawl.parts), 'part')}")
        for note in crawl.notes:
            console.say(f"  {note}")
    counts = {venue: dict.fromkeys(SPLITS, 0) for venue in splits.classes}
    for video, assigned in zip(plan.videos, splits.assignments, strict=True):
        if assigned.split and video.venue:
            counts[video.venue][assigned.split] += 1
    rows = [(venue, *of_venue.values()) for venue, of_venue in counts.items()]
    if rows:
        console.table("Venues", ("venue", *SPLITS), rows)
    if splits.set_aside:
        aside = listed(f"{venue} ({n})" for venue, n in splits.set_aside.items())
        console.say(f"Set aside, with fewer than {splits.settings.min_venue_videos} videos: {aside}")
    for note in splits.notes:
        console.say(f"Note: {note}")


def of_stage(stage: str, plan: "Plan") -> None:
    """Print what one stage wrote to the store."""
    if stage == "evaluate":
        of_run(plan.store)
    elif stage == "train":
        console.say(f"Model: {plan.store.where(plan.run.folder)}")
    elif stage == "fit":
        for modality, artifact in plan.states.items():
            console.say(f"{modality}: {artifact.folder}")
    else:
        _of_vectors(plan, completed=stage == "complete")


def _of_vectors(plan: "Plan", completed: bool) -> None:
    failures = {}
    for _, part in plan.catalogue.parts():
        failures.update(load_failures(plan.store, plan.failures, part))
    rows = []
    for name, artifact in plan.features.items():
        n_present = 0
        for _, part in plan.catalogue.parts():
            vectors = load_vectors(plan.store, artifact, part)
            n_present += int((~np.isnan(vectors)).all(axis=1).sum())
        rows.append((name, vectors.shape[1], n_present, plan.catalogue.n_videos - n_present))
    console.table("Vectors", ("feature set", "length", "extracted", "completed" if completed else "missing"), rows)
    for name in plan.settings.random_sets:
        console.say(f"Note: the network of {name} has random weights; its vectors carry little meaning.")
    if failures:
        of_failures(plan.store, failures)


def of_failures(store: Store, failures: Failures) -> None:
    """Print the number of failures by kind, and the command that lists them."""
    kinds = Counter(failure.kind for of_video in failures.values() for failure in of_video)
    counts = ", ".join(f"{kind} {n:,}" for kind, n in kinds.most_common())
    console.say(f"Failed: {counts}. Details: `nmcl errors --out {store.url}`")


def of_rows(rows: Sequence[Any], kind: type, form: str, title: str) -> None:
    """Print records of one dataclass as `table`, `json` or `csv`."""
    header = [f.name for f in fields(kind)]
    if form == "json":
        console.write(json.dumps([asdict(row) for row in rows], indent=1))
    elif form == "csv":
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        cells = ((csv_text(cell) if isinstance(cell, str) else cell for cell in asdict(row).values()) for row in rows)
        writer.writerows([header, *cells])
        console.write(file.getvalue().removesuffix("\n"))
    elif rows:
        console.table(
            title, tuple(name.replace("_", " ") for name in header), [tuple(asdict(row).values()) for row in rows]
        )
    else:
        console.say("No failures.")


def of_verification(store: Store, findings: "Findings", repaired: bool, as_json: bool) -> None:
    """Print the number of checked files, and the problems."""
    if as_json:
        from nmcl.pipeline.stages.verify import to_json

        console.write(json.dumps(to_json(findings), indent=1))
        return
    console.say("Checked: " + ", ".join(f"{n:,} {what}" for what, n in sorted(findings.checked.items())))
    for note in findings.notes:
        console.note(note)
    for problem in findings.problems:
        console.say(f"{problem.file}: {problem.problem}")
        is_removed = repaired and problem.removes
        console.say(f"    {'Removed. The next `nmcl run` recreates it.' if is_removed else problem.what_to_do}")
    n = len(findings.problems)
    console.say(f"{store.url}: {counted(n, 'problem')}" if n else f"{store.url} is intact.")


def of_service(service: Service, watched: Path | None, out: Path) -> None:
    """Print the address of the server, and how to use it."""
    say = console.say
    say(f"Prefect is running at {service.ui} (database: {service.database}; logs: {home()})")
    if watched:
        say(f"New crawls in {watched} are added to {out} after about ten minutes.")
    say(f"Deployments: extract-features, train-nmcl, retrain, sweep. Examples, to run in {working_folder()}:")
    for command in (
        *(() if is_clone() else ("export PREFECT_PLUGINS_ENABLED=true",)),
        "prefect deployment run extract-features --param crawl=DIR --param out=DIR --watch",
        "nmcl announce DIR --out DIR",
        "nmcl down",
    ):
        say(f"    {command}")


def of_prediction(result: dict[str, Any], out: Path) -> None:
    """Print how many videos were predicted, and the location of the table."""
    console.table("Predicted venues", ("venue", "videos"), list(result["venues"].items())[:20])
    counts = ", ".join(f"{result[name]:,} {name}" for name in ("videos", "ok", "partial", "failed"))
    console.say(counts)
    if scores := result["scores"]:
        console.say(
            f"On the {counted(scores['n_rows'], 'video')} with a known venue: "
            f"micro-F1 {scores['micro_f1']:.3f}, macro-F1 {scores['macro_f1']:.3f}"
        )
    for note in result["notes"]:
        console.say(note)
    console.say(f"Predictions: {out}")


def of_export(export: "Export", request: "ExportRequest", written: "Written | None") -> None:
    """Print the exported feature sets, and the location of the files; `written` is None if nothing was written."""
    rows = [
        (f.name, f.modality, f.dim, int(f.observed.sum()), int((~f.observed).sum()), f.longest) for f in export.features
    ]
    console.table(
        f"Features of {counted(len(export), 'video')}",
        ("feature set", "modality", "length", "observed", "missing", "longest sequence"),
        rows,
    )
    counts = Counter(split or "none" for split in export.splits)
    console.say("Splits: " + ", ".join(f"{split} {n:,}" for split, n in counts.items()))
    for note in (*export.notes, *(written.notes if written else ())):
        console.say(note)
    if written is None:
        if size := format_of(request.format).size:
            console.say(size(export))
        console.say(f"Would be written as {request.format}: {request.to}, recipe {request.recipe}")
        return
    for place, name in written.contents.items():
        console.say(f"  {place}: {name}")
    console.say(f"{request.format}: {request.to}, recipe {request.recipe}")


def of_pairs(rows: "Sequence[PairedRow]", first: Path, second: Path) -> None:
    """Print the macro-F1 of each method in two studies, with the interval and the tests of the gain."""
    header = ("method", "first", "second", "gain", "95 % interval", "p rows", "p splits")
    cells = [
        (
            row.method,
            row.macro_f1,
            row.other_macro_f1,
            f"{row.other_macro_f1 - row.macro_f1:+.3f}",
            "{:+.3f}…{:+.3f}".format(*row.interval),
            *("–" if p is None else f"{p:.2g}" for p in (row.rows_p_value, row.splits_p_value)),
        )
        for row in rows
    ]
    console.table(f"Macro-F1 of {first.name} (first) and {second.name}", header, cells)


def of_study(data: "StudyData", out: Path) -> None:
    """Print the methods by their macro-F1, and the location of the page."""
    header = ("method", "micro_f1", "macro_f1", "std", "p", "seconds")
    rows = [
        (row.name, row.micro_f1.mean, row.macro_f1.mean, row.macro_f1.std, row.verdict_p_value, row.train_seconds)
        for row in sorted(data.methods, key=lambda row: -(row.macro_f1.mean or 0.0))
    ]
    of_seeds = f"mean of {len(data.seeds)} seeds" if len(data.seeds) > 1 else "one seed"
    console.table(f"Test rows, {of_seeds}", header, rows)
    for notice in data.notices:
        console.say(f"Note: {notice}")
    console.say(f"Report: {(out / 'report.html').absolute()}")
