"""Evaluation of champion and challenger on the same videos; `nmcl.model.comparison` holds the promotion rule."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nmcl.flows.retrain.context import RetrainContext, now
from nmcl.flows.run.evaluation import stored_model
from nmcl.flows.run.prediction import probabilities
from nmcl.model import comparison
from nmcl.model.comparison import PromotionSettings
from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.features import class_indices
from nmcl.pipeline.stages.complete import load_completed
from nmcl.pipeline.storage.run_files import ChangedVideo, Comparison, ComparisonNote, NewClass


def compare(inputs: RetrainContext) -> ComparisonNote:
    """Evaluate both on the same videos, apply the promotion rule, and write the comparison note."""
    if (known := known_comparison(inputs)) is not None:
        return known
    found = evaluate_both(inputs)
    note = ComparisonNote(
        champion=inputs.champion.folder,
        challenger=inputs.run.folder,
        crawls=inputs.contents(),
        comparison=found,
        verdict=comparison.promotion_verdict(found, inputs.challenger.settings.promotion),
        rule=_rule(inputs),
        started_from=inputs.challenger.start,
        refitted=inputs.challenger.frozen is None,
        diffs=inputs.diffs,
        when=now(),
    )
    inputs.run.write(note)
    return note


def evaluate_both(inputs: RetrainContext) -> Comparison:
    """Evaluate both models on the test videos, old and new. See `nmcl.model.comparison`."""
    store, plans = inputs.store, (inputs.champion_plan, inputs.challenger)
    models = [stored_model(run) for run in (inputs.champion, inputs.run)]
    completed = [load_completed(store, p.catalogue, p.completed) for p in plans]
    shares = [probabilities(model, vectors) for model, vectors in zip(models, completed, strict=True)]
    usable = ~np.any([np.isnan(p).any(axis=1) for p in shares], axis=0)
    videos, before = inputs.challenger.videos, inputs.lineage.splits
    split = np.array([a.split or "" for a in inputs.challenger.splits.assignments])
    seen = np.array([v.sha256 in before for v in videos])
    same_label = _same_label(inputs)

    common = [name for name in models[0].classes if name in models[1].classes]
    label = class_indices([v.venue for v in videos], common)
    known = usable & (label >= 0)
    decided = [_decided(p, model.classes, common) for p, model in zip(shares, models, strict=True)]

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
            diff.crawl: comparison.agreement(*(a[to_agree & (crawls == diff.crawl)] for a in (label, decided[0])))
            for diff in inputs.diffs
        },
        new_classes=_new_classes(inputs, models[0].classes, models[1].classes, shares[1], usable & (split == "test")),
        changed=tuple(
            ChangedVideo(videos[i].video_id, videos[i].crawl, common[label[i]], *(common[d[i]] for d in decided))
            for i in np.flatnonzero((frozen | fresh) & ((decided[0] == label) != (decided[1] == label)))
        ),
    )


def _same_label(inputs: RetrainContext) -> np.ndarray:
    """Return which videos have the same label as when the champion was trained; shape (N,), bool."""
    before = {v.sha256: v.venue for v in reversed(inputs.lineage.catalogue.videos(inputs.store)) if v.venue}
    return np.array([before.get(v.sha256) == v.venue for v in inputs.challenger.videos])


def _decided(shares: np.ndarray, classes: Sequence[str], common: Sequence[str]) -> np.ndarray:
    """Return the most probable of the common classes, shape (N,); arbitrary for rows of NaN."""
    if not common:
        return np.zeros(len(shares), np.int64)
    columns = [list(classes).index(name) for name in common]
    return np.asarray(np.nan_to_num(shares[:, columns], nan=-1.0).argmax(axis=1))


def _new_classes(
    inputs: RetrainContext, before: Sequence[str], after: Sequence[str], shares: np.ndarray, rows: np.ndarray
) -> dict[str, NewClass]:
    found = {}
    best = np.nan_to_num(shares, nan=-1.0).argmax(axis=1)
    for k, name in enumerate(after):
        if name not in before:
            own = rows & np.array([v.venue == name for v in inputs.challenger.videos])
            found[name] = NewClass(int(own.sum()), float((best[own] == k).mean()) if own.any() else None)
    return found


def known_comparison(inputs: RetrainContext) -> ComparisonNote | None:
    """Return an earlier comparison of the same two models under the same rule, if there is one."""
    note = inputs.run.comparison
    if note is None or note.champion != inputs.champion.folder:
        return None
    return note if with_references(PromotionSettings, note.rule) == _rule(inputs) else None


def _rule(inputs: RetrainContext) -> dict[str, Any]:
    return asdict(inputs.challenger.settings.promotion)
