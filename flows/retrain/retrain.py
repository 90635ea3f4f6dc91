"""Retraining: train a challenger on new crawls, and promote it if it is better than the champion.

The challenger uses the champion's extractors and completer, so earlier crawls are not extracted again and both models
get the same vectors. Earlier videos keep their splits. Videos of known content are left out, also under other names.
The challenger is trained on the champion's crawls, on the named crawl, and on later crawls whose challenger merely was
not better; not on crawls whose labels or effects were doubted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from nmcl.flows.report.retraining import render_retraining
from nmcl.flows.retrain.compare import compare, known_comparison
from nmcl.flows.retrain.context import Options, RetrainContext, prepare, settings_for
from nmcl.flows.retrain.drift import measure_drift, stop_at, was_measured
from nmcl.flows.run import stages
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.runs import missing
from nmcl.flows.run.sources import crawls_of
from nmcl.flows.run.stages import Context
from nmcl.flows.settings_tree import Tree
from nmcl.pipeline.stages.splits import require_trainable
from nmcl.pipeline.storage.run_files import ComparisonNote, CrawlDiff, DriftNote, Verdict
from nmcl.pipeline.storage.runs import RETRAINING_REPORT, Run, champion, history, promote

Result = Literal["first", "nothing", "kept", "promoted", "rolled back"]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a retraining."""

    result: Result
    """`first`: there was no champion; `nothing`: there was nothing new to train on; `rolled back`: the challenger was
    promoted before, and a user rolled it back.
    """
    why: str
    champion: str
    """Champion after the retraining."""
    challenger: str | None
    diffs: Annotated[tuple[CrawlDiff, ...], Field(alias="news")] = ()
    notes: str | None = None
    """Folder of the drift note, if there are new videos."""
    is_new: bool = True
    """Whether anything was done; False if all was done before."""


class Callbacks:
    """Callbacks of a retraining; these do nothing."""

    def extracted(self, plan: Plan) -> None:
        """Called after all videos are extracted."""

    def drift_measured(self, note: DriftNote) -> None:
        """Called after the drift note is written."""

    def compared(self, plan: Plan, note: ComparisonNote) -> None:
        """Called after the challenger is evaluated and the comparison is written."""


def already_settled(context: Context, crawl: str | None, changes: Tree, options: Options) -> Outcome | None:
    """Ingest the crawls of a retraining, and return the outcome if there is nothing left to do.

    Without a champion nothing is ingested, and the result is None.
    """
    store = context.store
    if champion(store) is None:
        return None
    context = settings_for(context, changes, options)
    for folder in crawls_of(crawl, store, context.progress):
        stages.ingest(context, folder)
    return settled(prepare(context, [crawl] if crawl else None, options))


def settled(inputs: RetrainContext) -> Outcome | None:
    """Return the outcome if there is nothing left to do, else None."""
    outcome = _decided(inputs)
    if outcome is None or (inputs.fresh() and not _is_taken_up(inputs)):
        return None
    return replace(outcome, is_new=False)


def _decided(inputs: RetrainContext) -> Outcome | None:
    """Return the outcome if there is nothing new to train on, else None."""
    if inputs.has_same_data:
        return _outcome(inputs, "nothing", _nothing(inputs.diffs), None)
    note = known_comparison(inputs)
    if note is None or (note.verdict.promoted and not _was_promoted(inputs)):
        return None
    return _concluded(inputs, note.verdict)


def _is_taken_up(inputs: RetrainContext) -> bool:
    """Whether the new videos are extracted and have not drifted, including those that no model is trained on."""
    return was_measured(inputs) and not {"extract", "complete"} & set(missing(inputs.champion_plan))


def _outcome(inputs: RetrainContext, result: Result, why: str, challenger: str | None) -> Outcome:
    best = inputs.run if result == "promoted" else inputs.champion
    return Outcome(result, why, best.folder, challenger, inputs.diffs, inputs.notes.folder)


def _nothing(diffs: Sequence[CrawlDiff]) -> str:
    n_videos, n_known = sum(diff.n_videos for diff in diffs), sum(diff.n_known for diff in diffs)
    relabelled = sum(diff.n_relabelled for diff in diffs)
    if n_videos:
        why = f"nothing to learn from: {n_videos:,} new videos, extracted, none labelled with a venue of the model"
    else:
        why = f"nothing is new: all {n_known:,} videos are known"
    return why + (f", {relabelled:,} with another label than before: the earlier one counts" if relabelled else "")


def _was_promoted(inputs: RetrainContext) -> bool:
    wanted = (inputs.run.folder, "retrain", inputs.champion.folder)
    return any((e.run, e.how, e.before) == wanted for e in history(inputs.store))


def retrain(context: Context, inputs: RetrainContext, callbacks: Callbacks) -> Outcome:
    """Extract, measure drift, train, compare, and promote or not. Finished work is skipped.

    Raises:
        DriftError: the new crawls have drifted too far.
        UserError: the labels do not suffice to train.
    """
    if outcome := settled(inputs):
        return outcome
    require_trainable(inputs.challenger.splits)  # fail before hours of extraction
    stages.extract(context, inputs.champion_plan)  # also videos that no model is trained on
    inputs = inputs.refreshed()
    callbacks.extracted(inputs.champion_plan)
    note = context.run_task("drift", lambda: measure_drift(context, inputs))
    callbacks.drift_measured(note)
    _write_report(inputs.notes)
    stop_at(note, inputs)
    _vectors(context, inputs.champion_plan)
    if outcome := _decided(inputs):
        return outcome
    if inputs.challenger is not inputs.champion_plan:
        inputs = replace(inputs, challenger=_vectors(context, inputs.challenger))
    context.run_task("train", lambda: stages.train(context, inputs.challenger))
    context.run_task("evaluate", lambda: stages.evaluate(context, inputs.challenger))
    comparison = context.run_task("compare", lambda: compare(inputs))
    callbacks.compared(inputs.challenger, comparison)
    _write_report(inputs.notes)
    return _concluded(inputs, comparison.verdict)


def _write_report(run: Run) -> None:
    """Write the retraining report. Called after drift was measured, and again after the comparison."""
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    run.store.write(run.file(RETRAINING_REPORT), render_retraining(run, created).encode())


def _vectors(context: Context, plan: Plan) -> Plan:
    plan = context.run_task("fit", partial(stages.fit, context, plan))
    return stages.complete(context, stages.extract(context, plan))


def _concluded(inputs: RetrainContext, verdict: Verdict) -> Outcome:
    """Promote the challenger if it won and was never promoted over this champion."""
    why, run = "; ".join(verdict.reasons), inputs.run
    if not verdict.promoted:
        return _outcome(inputs, "kept", why, run.folder)
    if _was_promoted(inputs):
        why = f"{run.folder} was promoted before, and rolled back since. `nmcl promote {run.folder}` brings it back"
        return _outcome(inputs, "rolled back", why, run.folder)
    promote(run, "retrain", why)
    return _outcome(inputs, "promoted", why, run.folder)
