"""Retrain: take up new crawls, train a challenger on them, and let it replace the champion if it is better.

The challenger uses the champion's own extractors and completion, so that nothing of earlier crawls is extracted again
and both decide the same vectors. Earlier videos keep their splits. Videos whose content is known are left out, whatever
they are called now. It learns from the champion's crawls, from the crawl that is named, and from crawls that came since
and were merely not enough to be better; not from those whose labels or effects were found doubtful.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from nmcl.flows.retrain.compare import compare, known_verdict
from nmcl.flows.retrain.context import (
    Case,
    Options,
    prepare,
    settings_for,
)
from nmcl.flows.retrain.drift import look_for_drift, stop_at, was_measured
from nmcl.flows.retrain.new_data import News
from nmcl.flows.retrain.page import write_page
from nmcl.flows.run import stages
from nmcl.flows.run.champion import crown
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.runs import missing
from nmcl.flows.run.sources import crawls_of
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Tree
from nmcl.model.comparison import Verdict
from nmcl.pipeline.stages.splits import require_trainable
from nmcl.pipeline.storage import champions

Result = Literal["first", "nothing", "kept", "promoted", "rolled back"]


@dataclass(frozen=True)
class Outcome:
    """How a retraining ended. JSON values only."""

    result: Result
    """`first`: there was no champion; `nothing`: nothing new to learn from; `rolled back`: it won once, and a person
    went back."""
    why: str
    champion: str
    """After it."""
    challenger: str | None
    news: tuple[News, ...] = ()
    notes: str | None = None
    """Folder of `drift.json`, where there are new videos."""
    is_new: bool = True
    """False where all was done before."""


class Audience:
    """Who hears what a retraining finds while it goes on; this one does not listen."""

    def extracted(self, plan: Plan) -> None:
        """All videos are extracted."""

    def drifted(self, case: Case) -> None:
        """`drift.json` is written."""

    def compared(self, case: Case) -> None:
        """`comparison.json` is written."""


def already_settled(context: Context, crawl: str | None, changes: Tree, options: Options) -> dict[str, Any] | None:
    """Ingest the crawls of a retraining, and tell how it ended if there is nothing left to do.

    Without a champion nothing is ingested, and all is left to do.
    """
    store = context.store
    if champions.champion(store) is None:
        return None
    context = settings_for(context, changes, options)
    for folder in crawls_of(crawl, store, context.progress):
        stages.ingest(context, folder)
    outcome = settled(prepare(context, [crawl] if crawl else None, options))
    return asdict(outcome) if outcome else None


def settled(case: Case) -> Outcome | None:
    """How it ended, where there is nothing left to do."""
    outcome = _decided(case)
    if outcome is None or (case.fresh() and not _is_taken_up(case)):
        return None
    return replace(outcome, is_new=False)


def _decided(case: Case) -> Outcome | None:
    """How it ends, where there is nothing new to learn."""
    if case.has_same_data:
        return _outcome(case, "nothing", _nothing(case.news), None)
    verdict = known_verdict(case)
    if verdict is None or (verdict.promoted and not _was_promoted(case)):
        return None
    return _concluded(case, verdict)


def _is_taken_up(case: Case) -> bool:
    """Whether the new videos are extracted and have not drifted, whether anything is learnt from them or not."""
    return was_measured(case) and not {"extract", "complete"} & set(missing(case.view))


def _outcome(case: Case, result: Result, why: str, challenger: str | None) -> Outcome:
    champion = case.run if result == "promoted" else case.champion
    return Outcome(result, why, champion, challenger, case.news, case.notes)


def _nothing(news: Iterable[News]) -> str:
    counts = list(news)
    n_videos, n_known = sum(n.n_videos for n in counts), sum(n.n_known for n in counts)
    relabelled = sum(n.n_relabelled for n in counts)
    if n_videos:
        why = f"nothing to learn from: {n_videos:,} new videos, extracted, none labelled with a venue that is learnt"
    else:
        why = f"nothing is new: all {n_known:,} videos are known"
    return why + (f", {relabelled:,} with another label than before: the earlier one counts" if relabelled else "")


def _was_promoted(case: Case) -> bool:
    entries = champions.history(case.store)
    return any(e.run == case.run and e.how == "retrain" and e.before == case.champion for e in entries)


def retrain(context: Context, case: Case, audience: Audience) -> Outcome:
    """Extract, look for drift, train, compare, and promote or not. What is done is not done again.

    Raises:
        DriftError: the new crawls lie too far off.
        UserError: the labels do not suffice to train.
    """
    if outcome := settled(case):
        return outcome
    require_trainable(case.challenger.splits)  # before hours of extraction, not after
    stages.extract(context, case.view)  # also where nothing is learnt from it
    case = case.refreshed()
    audience.extracted(case.view)
    figures = context.once("drift", lambda: look_for_drift(context, case))
    audience.drifted(case)
    write_page(case)
    stop_at(figures, case)
    _vectors(context, case.view)
    if outcome := _decided(case):
        return outcome
    if case.challenger is not case.view:
        case = replace(case, challenger=_vectors(context, case.challenger))
    context.once("train", lambda: stages.train(context, case.challenger))
    context.once("evaluate", lambda: stages.evaluate(context, case.challenger))
    verdict = context.once("compare", lambda: compare(case))
    audience.compared(case)
    write_page(case)
    return _concluded(case, verdict)


def _vectors(context: Context, plan: Plan) -> Plan:
    plan = context.once("fit", partial(stages.fit, context, plan))
    return stages.complete(context, stages.extract(context, plan))


def _concluded(case: Case, verdict: Verdict) -> Outcome:
    """Promote the challenger if it won and never was promoted over this champion."""
    why = "; ".join(verdict.reasons)
    if not verdict.promoted:
        return _outcome(case, "kept", why, case.run)
    if _was_promoted(case):
        why = f"{case.run} was promoted before, and rolled back since. `nmcl promote {case.run}` brings it back"
        return _outcome(case, "rolled back", why, case.run)
    crown(case.store, case.run, "retrain", why)
    return _outcome(case, "promoted", why, case.run)
