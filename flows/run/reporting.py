"""Writes the files of an evaluated run: predictions, cards, report and metrics."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from nmcl.flows.report import Example, ReportData, render
from nmcl.flows.run.cards import data_card, model_card
from nmcl.flows.run.evaluation import Evaluated, measure, metrics_of, seconds_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.prediction import table
from nmcl.flows.run.provenance import PROVENANCE, made_with
from nmcl.pipeline.crawl.sample import is_sample
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import write_with_digest
from nmcl.pipeline.storage.run_files import Metrics
from nmcl.pipeline.storage.runs import DATA_CARD, MODEL_CARD, PREDICTIONS, REPORT, champion
from nmcl.pipeline.storage.tables import encode
from nmcl.pipeline.text import listed

N_EXAMPLES = 12
N_FAILURES = 200


def evaluate_run(plan: Plan, progress: Progress, command: str) -> None:
    """Write predictions, cards, report and metrics into the run's folder.

    The metrics are written last: if they exist, the run is finished.
    """
    start = time.perf_counter()
    evaluated = measure(plan, progress)
    store, run = plan.store, plan.result
    predictions = table(
        plan.videos,
        evaluated.failures,
        [assignment.split for assignment in plan.splits.assignments],
        evaluated.probability,
        evaluated.trained.classes,
        evaluated.alone,
        plan.settings.predictions.all_classes,
    )
    write_with_digest(store, run.file(PREDICTIONS), encode(predictions))
    metrics = metrics_of(evaluated, seconds_of(plan) | {"evaluate": round(time.perf_counter() - start, 3)})
    store.write(run.file(MODEL_CARD), model_card(evaluated, metrics).encode())
    store.write(run.file(DATA_CARD), data_card(evaluated, metrics).encode())
    store.write(run.file(REPORT), render(report_data(evaluated, metrics, command)).encode())
    store.write_json(run.file(PROVENANCE), made_with(command))
    run.write(metrics)


def report_data(evaluated: Evaluated, metrics: Metrics, command: str) -> ReportData:
    """Return the data of the report page."""
    plan, best = evaluated.plan, champion(evaluated.plan.store)
    failures = zip(plan.videos, evaluated.failures, strict=True)
    return ReportData(
        title=f"Venues of {listed(crawl.name for crawl in plan.catalogue.crawls)}",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=metrics,
        test=evaluated.test,
        history=evaluated.trained.history,
        examples=_examples(evaluated),
        failures=[(video, failure) for video, of_video in failures for failure in of_video][:N_FAILURES],
        command=command,
        champion=f"Champion at the time: {best.folder}" if best else "The first run, and so the champion",
        is_challenger=bool(plan.earlier),
        is_sample=any(is_sample(Path(crawl.folder)) for crawl in plan.catalogue.crawls),
    )


def _examples(evaluated: Evaluated) -> list[Example]:
    """Return the test videos with the most probable wrong venue first."""
    rows = np.flatnonzero(evaluated.rows["test"])
    classes, probability = evaluated.trained.classes, evaluated.probability
    videos = [evaluated.plan.videos[i] for i in rows]
    wrong = np.array([classes[probability[i].argmax()] != video.venue for i, video in zip(rows, videos, strict=True)])
    order = sorted(range(len(rows)), key=lambda j: (not wrong[j], -probability[rows[j]].max()))
    return [_example(videos[j], probability[rows[j]], classes) for j in order[:N_EXAMPLES]]


def _example(video: Video, probability: np.ndarray, classes: tuple[str, ...]) -> Example:
    best = np.argsort(-probability)[:3]
    guesses = tuple((classes[k], float(probability[k])) for k in best)
    return Example(video, guesses)
