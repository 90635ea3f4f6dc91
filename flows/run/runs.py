"""Runs the stages in order, for the commands `nmcl fit`, `extract`, `complete`, `train` and `evaluate`."""

from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import STAGES, Context, has_retries
from nmcl.pipeline.stages.splits import require_trainable
from nmcl.pipeline.storage.artifacts import has_state
from nmcl.pipeline.storage.runs import champion


def up_to(context: Context, last: str) -> Plan:
    """Run the unfinished stages up to `last` on the ingested videos.

    Raises:
        UserError: If nothing is ingested, or the labels do not suffice to train.
    """
    plan = context.plan()
    wanted = list(STAGES)[: list(STAGES).index(last) + 1]
    if "train" in wanted:
        require_trainable(plan.splits)  # fail before hours of extraction
    for stage in wanted:
        plan = STAGES[stage](context, plan)
    return plan


def is_complete(context: Context) -> bool:
    """Return whether a run on the ingested videos has nothing left to do."""
    plan = context.plan()
    return missing(plan) == [] and not has_retries(context, plan)


def missing(plan: Plan) -> list[str]:
    """Return the stages that have something left to do."""
    store, run = plan.store, plan.result
    parts = [part for _, part in plan.catalogue.parts()]
    extracted = [*plan.features.values(), plan.failures]
    done = {
        "fit": all(has_state(store, artifact) for artifact in plan.states.values()),
        "extract": store.has_all(artifact.part(part.key) for artifact in extracted for part in parts),
        "complete": has_state(store, plan.completion) and store.has_all(plan.completed.part(p.key) for p in parts),
        "train": run.is_trained,
        "evaluate": run.is_finished and run.is_latest and champion(store) is not None,
    }
    return [stage for stage in STAGES if not done[stage]]
