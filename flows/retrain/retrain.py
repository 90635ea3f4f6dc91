"""Retrain: train a challenger on new crawls, and promote it if it is better than the champion.

The challenger uses the champion's extractors and completer, so earlier crawls are not extracted again and both models
see the same vectors. Earlier videos keep their splits. Videos of known content are left out, also under other names.
The challenger is trained on the champion's crawls, on the crawl that is named, and on later crawls that merely were not
enough to be better; not on those whose labels or effects were doubted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from nmcl.flows.report import render_retraining
from nmcl.flows.retrain.compare import compare, known_comparison
from nmcl.flows.retrain.context import Options, RetrainContext, prepare, settings_for
from nmcl.flows.retrain.drift import measure_drift, stop_at, was_measured
from nmcl.flows.run import stages
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.runs import missing
from nmcl.flows.run.sources import crawls_of
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Tree
from nmcl.pipeline.stages.splits import require_trainable
from nmcl.pipeline.storage.run_files import ComparisonNote, CrawlDiff, DriftNote, Verdict
from nmcl.pipeline.storage.runs import RETRAINING_REPORT, Run, champion, history, promote

Result = Literal["first", "nothing", "kept", "promoted", "rolled back"]


@dataclass(frozen=True)
class Outcome:
    """How a retraining ended."""

    result: Result
    """`first`: there was no champion; `nothing`: nothing new to learn from; `rolled back`: it won once, and a person
    went back."""
    why: str
    champion: str
    """After it."""
    challenger: str | None
    diffs: Annotated[tuple[CrawlDiff, ...], Field(alias="news")] = ()
    notes: str | None = None
    """Folder of the drift note, where there are new videos."""
    is_new: bool = True
    """False where all was done before."""


class Callbacks:
    """Called while a retraining goes on; these do nothing."""

    def extracted(self, plan: Plan) -> None:
        """All videos are extracted."""

    def drift_measured(self, note: DriftNote) -> None:
        """The drift note is written."""

    def compared(self, plan: Plan, note: ComparisonNote) -> None:
        """The challenger is evaluated, and the comparison is written."""


def already_settled(context: Context, crawl: str | None, changes: Tree, options: Options) -> Outcome | None:
    """Ingest the crawls of a retraining, and return how it ended if there is nothing left to do.

    Without a champion nothing is ingested, and all is left to do.
    """
    store = context.store
    if champion(store) is None:
        return None
    context = settings_for(context, changes, options)
    for folder in crawls_of(crawl, store, context.progress):
        stages.ingest(context, folder)
    return settled(prepare(context, [crawl] if crawl else None, options))


def settled(inputs: RetrainContext) -> Outcome | None:
    """How it ended, where there is nothing left to do."""
    outcome = _decided(inputs)
    if outcome is None or (inputs.fresh() and not _is_taken_up(inputs)):
        return None
    return replace(outcome, is_new=False)


def _decided(inputs: RetrainContext) -> Outcome | None:
    """How it ends, where there is nothing new to train on."""
    if inputs.has_same_data:
        return _outcome(inputs, "nothing", _nothing(inputs.diffs), None)
    note = known_comparison(inputs)
    if note is None or (note.verdict.promoted and not _was_promoted(inputs)):
        return None
    return _concluded(inputs, note.verdict)


def _is_taken_up(inputs: RetrainContext) -> bool:
    """Whether the new videos are extracted and have not drifted, also those that no model is trained on."""
    return was_measured(inputs) and not {"extract", "complete"} & set(missing(inputs.champion_plan))


def _outcome(inputs: RetrainContext, result: Result, why: str, challenger: str | None) -> Outcome:
    best = inputs.run if result == "promoted" else inputs.champion
    return Outcome(result, why, best.folder, challenger, inputs.diffs, inputs.notes.folder)


def _nothing(diffs: Sequence[CrawlDiff]) -> str:
    n_videos, n_known = sum(diff.n_videos for diff in diffs), sum(diff.n_known for diff in diffs)
    relabelled = sum(diff.n_relabelled for diff in diffs)
    if n_videos:
        why = f"nothing to learn from: {n_videos:,} new videos, extracted, none labelled with a venue that is learnt"
    else:
        why = f"nothing is new: all {n_known:,} videos are known"
    return why + (f", {relabelled:,} with another label than before: the earlier one counts" if relabelled else "")


def _was_promoted(inputs: RetrainContext) -> bool:
    wanted = (inputs.run.folder, "retrain", inputs.champion.folder)
    return any((e.run, e.how, e.before) == wanted for e in history(inputs.store))


def retrain(context: Context, inputs: RetrainContext, callbacks: Callbacks) -> Outcome:
    """Extract, measure drift, train, compare, and promote or not. What is done is not done again.

    Raises:
        DriftError: the new crawls have drifted too far.
        UserError: the labels do not suffice to train.
    """
    if outcome := settled(inputs):
        return outcome
    require_trainable(inputs.challenger.splits)  # before hours of extraction, not after
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
    """After drift was measured, and again after the comparison."""
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    run.store.write(run.file(RETRAINING_REPORT), render_retraining(run, created).encode())


def _vectors(context: Context, plan: Plan) -> Plan:
    plan = context.run_task("fit", partial(stages.fit, context, plan))
    return stages.complete(context, stages.extract(context, plan))


def _concluded(inputs: RetrainContext, verdict: Verdict) -> Outcome:
    """Promote the challenger if it won and never was promoted over this champion."""
    why, run = "; ".join(verdict.reasons), inputs.run
    if not verdict.promoted:
        return _outcome(inputs, "kept", why, run.folder)
    if _was_promoted(inputs):
        why = f"{run.folder} was promoted before, and rolled back since. `nmcl promote {run.folder}` brings it back"
        return _outcome(inputs, "rolled back", why, run.folder)
    promote(run, "retrain", why)
    return _outcome(inputs, "promoted", why, run.folder)
