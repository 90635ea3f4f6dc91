"""The files of an evaluated run: predictions, report and metrics."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nmcl.flows.report import (
    Completion,
    Counts,
    Curve,
    Epoch,
    Example,
    Failure,
    Gate,
    ReportData,
    Scores,
    SplitScores,
    VenueRow,
    render,
)
from nmcl.flows.run.evaluation import Evaluated, measure, metrics_of, seconds_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.prediction import table
from nmcl.pipeline.crawl.sample import is_sample
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.artifacts import write_with_digest
from nmcl.pipeline.storage.champions import champion
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode
from nmcl.pipeline.text import listed

N_EXAMPLES = 12
N_FAILURES = 200


def evaluate_run(plan: Plan, progress: Progress, command: str) -> None:
    """Write predictions, report and metrics into the run's folder.

    `metrics.json` goes last: where it exists, the run is whole.
    """
    start = time.perf_counter()
    evaluated = measure(plan, progress)
    store, folder = plan.store, plan.run.folder
    venues = evaluated.trained.venues
    predictions = table(plan.videos, evaluated.failures, evaluated.probability, venues)
    write_with_digest(store, f"{folder}/predictions.parquet", encode(predictions))
    metrics = metrics_of(evaluated, seconds_of(plan) | {"evaluate": round(time.perf_counter() - start, 3)})
    store.write(f"{folder}/report.html", render(report_data(evaluated, metrics, command)).encode())
    store.write_json(f"{folder}/metrics.json", metrics)


def report_data(evaluated: Evaluated, metrics: dict[str, Any], command: str) -> ReportData:
    """All that the page shows."""
    plan, test = evaluated.plan, evaluated.scores["test"]
    names = listed(crawl.name for crawl in plan.catalogue.crawls)
    counts = metrics["counts"]
    return ReportData(
        title=f"Venues of {names}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        venues=evaluated.trained.venues,
        test=_split_scores(test),
        validation=_split_scores(evaluated.scores["validation"]),
        modalities={m: Scores(s["micro_f1"], s["macro_f1"]) for m, s in evaluated.alone.items()},
        counts=Counts(**{name: n for name, n in counts.items() if not name.startswith("missing_")}),
        missing={name.removeprefix("missing_"): n for name, n in counts.items() if name.startswith("missing_")},
        completion=_completion(metrics["completion"]),
        confusion=np.array(test["confusion"]),
        roc={k: Curve(c["fpr"], c["tpr"], test[f"auc_{k}"]) for k, c in test["roc"].items() if c},
        history=[_epoch(epoch) for epoch in evaluated.trained.history],
        per_venue=[
            VenueRow(venue, row["precision"], row["recall"], row["f1"], row["support"])
            for venue, row in test["per_venue"].items()
        ],
        set_aside=plan.splits.set_aside_venues,
        gates=_gates(evaluated.trained.diagnostics),
        examples=_examples(evaluated),
        failures=[
            Failure(video.video_id, video.path, failure.kind, failure.detail)
            for video, failures in zip(plan.videos, evaluated.failures, strict=True)
            for failure in failures
        ][:N_FAILURES],
        seconds=metrics["seconds"],
        settings=metrics["settings"],
        command=command,
        notices=metrics["notices"],
        champion=_champion(plan.store),
        is_challenger=bool(plan.earlier),
        is_sample=any(is_sample(Path(crawl.folder)) for crawl in plan.catalogue.crawls),
    )


def _champion(store: Store) -> str:
    run = champion(store)
    return f"Champion at the time: {run}" if run else "The first run, and so the champion"


def _split_scores(scores: dict[str, Any]) -> SplitScores:
    names = ("n_rows", "micro_f1", "macro_f1", "top5_accuracy", "auc_micro", "auc_macro", "log_loss")
    return SplitScores(**{name: scores[name] for name in names})


def _completion(found: dict[str, Any]) -> Completion:
    nrmse = {method: scores["per_modality"] for method, scores in found["held_out"]["nrmse"].items()}
    return Completion(found["method"], nrmse)


def _epoch(epoch: Any) -> Epoch:
    branches = {m: Scores(s.micro_f1, s.macro_f1) for m, s in epoch.per_modality.items()}
    return Epoch(
        epoch.number, epoch.loss, epoch.validation_loss, epoch.validation.micro_f1, epoch.validation.macro_f1, branches
    )


def _gates(diagnostics: dict[str, Any]) -> list[Gate]:
    """Of each modality as host and of its guests, where the model has gates."""
    return [
        Gate(f"{modality}, {side}", found[side]["open"], found[side]["undecided"], found[side]["shut"])
        for modality, found in diagnostics.get("gates", {}).items()
        for side in ("host", "guest")
        if side in found
    ]


def _examples(evaluated: Evaluated) -> list[Example]:
    """The test videos with the most probable wrong venue first."""
    rows = np.flatnonzero(evaluated.rows["test"])
    venues, probability = evaluated.trained.venues, evaluated.probability
    videos = [evaluated.plan.videos[i] for i in rows]
    wrong = np.array([venues[probability[i].argmax()] != video.venue for i, video in zip(rows, videos, strict=True)])
    order = sorted(range(len(rows)), key=lambda j: (not wrong[j], -probability[rows[j]].max()))
    return [_example(videos[j], probability[rows[j]], venues) for j in order[:N_EXAMPLES]]


def _example(video: Any, probability: np.ndarray, venues: tuple[str, ...]) -> Example:
    best = np.argsort(-probability)[:3]
    guesses = tuple((venues[k], float(probability[k])) for k in best)
    return Example(video.video_id, video.venue, guesses, video.description)
