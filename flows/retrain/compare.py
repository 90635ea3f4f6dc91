"""Champion and challenger decide the same videos; `nmcl.model.comparison` has the rule."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nmcl.flows.retrain.context import Case, now
from nmcl.flows.run.evaluation import stored_model
from nmcl.flows.run.prediction import probabilities
from nmcl.model import comparison
from nmcl.model.comparison import (
    Comparison,
    NewVenue,
    PromotionSettings,
    Verdict,
)
from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.features import class_indices
from nmcl.pipeline.records import MODALITIES
from nmcl.pipeline.stages.complete import load_completed
from nmcl.pipeline.storage import shapes


def compare(case: Case) -> Verdict:
    """Let both decide the same videos, apply the rule, and write `comparison.json`."""
    if (verdict := known_verdict(case)) is not None:
        return verdict
    found = compared(case)
    verdict = comparison.decide(found, case.challenger.settings.promotion)
    note = {
        "champion": case.champion,
        "challenger": case.run,
        "crawls": case.contents(),
        "comparison": comparison.to_json(found),
        "verdict": asdict(verdict),
        "rule": _rule(case),
        "started_from": case.challenger.start,
        "refitted": case.challenger.frozen is None,
        "news": [asdict(news) for news in case.news],
        "when": now(),
    }
    case.store.write_json(f"{case.run}/comparison.json", note)
    return verdict


def compared(case: Case) -> Comparison:
    """Decisions of both on the test videos, old and fresh. See `nmcl.model.comparison`."""
    store, plans = case.store, (case.view, case.challenger)
    models = [stored_model(store, run) for run in (case.champion, case.run)]
    completed = [load_completed(store, p.catalogue, p.completed, MODALITIES) for p in plans]
    shares = [probabilities(model, vectors) for model, vectors in zip(models, completed, strict=True)]
    usable = ~np.any([np.isnan(p).any(axis=1) for p in shares], axis=0)
    videos, before = case.challenger.videos, case.lineage.splits
    split = np.array([a.split or "" for a in case.challenger.splits.assignments])
    seen = np.array([v.sha256 in before for v in videos])
    same_label = _same_label(case)

    common = [venue for venue in models[0].venues if venue in models[1].venues]
    label = class_indices([v.venue for v in videos], common)
    known = usable & (label >= 0)
    decided = [_decided(p, model.venues, common) for p, model in zip(shares, models, strict=True)]

    was_test = np.array([before.get(v.sha256) == "test" for v in videos])
    frozen = known & (split == "test") & was_test & same_label
    fresh = known & (split == "test") & ~seen
    crawls = np.array([v.crawl for v in videos])
    to_agree = known & (split != "") & ~seen
    slices = [comparison.compare(label[r], decided[0][r], decided[1][r]) for r in (frozen, fresh, frozen | fresh)]
    return Comparison(
        frozen=slices[0],
        fresh=slices[1],
        together=slices[2],
        trusted=comparison.agreement(label[frozen], decided[0][frozen]),
        crawls={
            news.crawl: comparison.agreement(*(a[to_agree & (crawls == news.crawl)] for a in (label, decided[0])))
            for news in case.news
        },
        new_venues=_new_venues(case, models[0].venues, models[1].venues, shares[1], usable & (split == "test")),
    )


def _same_label(case: Case) -> np.ndarray:
    """Which videos are labelled as they were when the champion was trained; shape (N,), bool."""
    before = {v.sha256: v.venue for v in reversed(case.lineage.catalogue.videos(case.store)) if v.venue}
    return np.array([before.get(v.sha256) == v.venue for v in case.challenger.videos])


def _decided(shares: np.ndarray, venues: Sequence[str], common: Sequence[str]) -> np.ndarray:
    """The most probable of the common venues, shape (N,); any for rows of NaN."""
    if not common:
        return np.zeros(len(shares), np.int64)
    columns = [list(venues).index(venue) for venue in common]
    return np.asarray(np.nan_to_num(shares[:, columns], nan=-1.0).argmax(axis=1))


def _new_venues(
    case: Case, before: Sequence[str], after: Sequence[str], shares: np.ndarray, rows: np.ndarray
) -> dict[str, NewVenue]:
    found = {}
    best = np.nan_to_num(shares, nan=-1.0).argmax(axis=1)
    for k, venue in enumerate(after):
        if venue not in before:
            own = rows & np.array([v.venue == venue for v in case.challenger.videos])
            found[venue] = NewVenue(int(own.sum()), float((best[own] == k).mean()) if own.any() else None)
    return found


def known_verdict(case: Case) -> Verdict | None:
    """Of the same two, under the same rule."""
    name = f"{case.run}/comparison.json"
    if not case.store.exists(name):
        return None
    note = case.store.read_json(name, shapes.Comparison)
    if note["champion"] != case.champion or with_references(PromotionSettings, note["rule"]) != _rule(case):
        return None
    verdict = note["verdict"]
    return Verdict(verdict["promoted"], tuple(verdict["reasons"]), tuple(verdict["doubted"]))


def _rule(case: Case) -> dict[str, Any]:
    return asdict(case.challenger.settings.promotion)
