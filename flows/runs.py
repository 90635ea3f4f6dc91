"""The stages in order, without an engine: what `nmcl fit`, `extract`, `complete`, `train` and `evaluate` do."""

from pathlib import Path

from flows.plan import Plan
from flows.stages import STAGES, Context, has_retries, ingest
from pipeline.artifacts import has_state
from pipeline.catalogue import load_catalogue
from pipeline.champions import champion
from pipeline.crawl_source import crawl_source
from pipeline.splits import require_trainable


def up_to(context: Context, last: str) -> Plan:
    """Do what is missing of the stages up to `last`, for what is ingested.

    Raises:
        UserError: nothing is ingested, or the labels do not suffice to train.
    """
    plan = context.plan()
    wanted = list(STAGES)[: list(STAGES).index(last) + 1]
    if "train" in wanted:
        require_trainable(plan.splits)  # before hours of extraction, not after
    for stage in wanted:
        plan = STAGES[stage](context, plan)
    return plan


def is_complete(context: Context, crawl: str | Path) -> bool:
    """Whether a run of this crawl has nothing left to do. Looks at the crawl only if it was ingested before."""
    known = {crawl.folder for crawl in load_catalogue(context.store).crawls}
    if crawl_source(crawl).address not in known:
        return False
    ingest(context, crawl)
    plan = context.plan()
    return missing(plan) == [] and not has_retries(context, plan)


def missing(plan: Plan) -> list[str]:
    """The stages that have something left to do."""
    store = plan.store
    parts = [part for _, part in plan.catalogue.parts()]
    extracted = [*plan.features.values(), plan.failures]
    done = {
        "fit": all(has_state(store, artifact) for artifact in plan.states.values()),
        "extract": store.has_all(artifact.part(part.key) for artifact in extracted for part in parts),
        "complete": has_state(store, plan.completion) and store.has_all(plan.completed.part(p.key) for p in parts),
        "train": store.exists(f"{plan.run.folder}/model.json"),
        "evaluate": store.exists(f"{plan.run.folder}/metrics.json")
        and store.leads("latest", plan.run.folder)
        and champion(store) is not None,
    }
    return [stage for stage in STAGES if not done[stage]]
