"""Writes the files of an evaluated run: predictions, cards, report and metrics."""

import time
from dataclasses import replace

from nmcl.flows.report.run_page import render_run
from nmcl.flows.run.cards import data_card, model_card
from nmcl.flows.run.evaluation import measure, metrics_of, seconds_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.prediction import table
from nmcl.flows.run.provenance import made_with
from nmcl.flows.run.run_page import is_rendered, page_of
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.artifacts import write_with_digest
from nmcl.pipeline.storage.runs import DATA_CARD, MODEL_CARD, PREDICTIONS, PROVENANCE, REPORT
from nmcl.pipeline.storage.tables import encode


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
    store.write_json(run.file(PROVENANCE), made_with(command, is_rendered(plan.catalogue)))
    page = replace(page_of(run, metrics=metrics), has_retraining=bool(plan.earlier))
    store.write(run.file(REPORT), render_run(page).encode())
    run.write(metrics)
