"""How far the new videos of a retraining lie from the champion's crawls."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from nmcl.extractors.textual import unknown_words
from nmcl.flows.retrain.context import Case, now
from nmcl.flows.run.prediction import failures_of
from nmcl.flows.run.stages import Context
from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.errors import DriftError
from nmcl.pipeline.features import class_indices
from nmcl.pipeline.records import MODALITIES, Video
from nmcl.pipeline.stages import drift
from nmcl.pipeline.stages.complete import load_features
from nmcl.pipeline.stages.drift import Figure
from nmcl.pipeline.storage import shapes
from nmcl.pipeline.storage.artifacts import load_state
from nmcl.pipeline.text import listed


def look_for_drift(context: Context, case: Case) -> list[Figure]:
    """Measure drift of the new videos against the champion's crawls, and write `drift.json`."""
    plan, settings = case.view, context.settings.drift
    store, videos = plan.store, plan.videos
    old = {part.key for _, part in case.lineage.catalogue.parts()}
    new = np.concatenate([np.full(part.n_videos, part.key not in old) for _, part in plan.catalogue.parts()])
    failures = failures_of(store, plan.failures, plan.catalogue, videos)
    failed = np.array([any(f.modality is None for f in of_video) for of_video in failures])
    figures = drift.of_files(failed[~new], failed[new], settings)
    looked_at = drift.sample(~new & ~failed, settings) | drift.sample(new & ~failed, settings)
    for number, modality in enumerate(MODALITIES):
        context.progress("drift", number, len(MODALITIES), modality)
        vectors = load_features(store, plan.catalogue, plan.features[modality], looked_at)
        is_new = new[looked_at]
        figures += drift.of_vectors(modality, vectors[~is_new], vectors[is_new], settings)
    context.progress("drift", len(MODALITIES), len(MODALITIES))
    figures += _drift_of_words(case, new) + _drift_of_labels(videos, new, settings)
    exceeded = [f"{f.subject}.{f.name}" for f in figures if f.exceeded]
    note = {
        "champion": case.champion,
        "crawls": case.fresh(),
        "figures": drift.to_json(figures),
        "exceeded": exceeded,
        "stopped": bool(exceeded) and settings.stop,
        "settings": asdict(settings),
        "news": [asdict(news) for news in case.news],
        "venues": _venues(case, new),
        "when": now(),
    }
    store.write_json(f"{case.notes}/drift.json", note)
    return figures


def was_measured(case: Case) -> bool:
    """Whether drift of the same videos was measured in the same way before, and did not stop the retraining."""
    name = f"{case.notes}/drift.json"
    if not case.store.exists(name):
        return False
    note, settings = case.store.read_json(name, shapes.Drift), asdict(case.view.settings.drift)
    known = with_references(drift.DriftSettings, note["settings"])
    of = (note["champion"], note["crawls"], known | {"stop": settings["stop"]})
    return of == (case.champion, case.fresh(), settings) and not note["stopped"]


def _drift_of_words(case: Case, new: np.ndarray) -> list[Figure]:
    """Against descriptions that the paragraph vectors did not learn from either."""
    plan, splits = case.view, case.lineage.splits
    if "textual" not in plan.states:
        return []
    state = load_state(plan.store, plan.states["textual"])
    described = [v.description is not None for v in plan.videos]
    held_out = [splits.get(v.sha256) in ("validation", "test") for v in plan.videos]
    words = [
        unknown_words([v.description or "" for v, c in zip(plan.videos, chosen, strict=True) if c], state)
        for chosen in (~new & held_out & described, new & described)
    ]
    return drift.of_words(words[0], words[1], plan.settings.drift)


def _drift_of_labels(videos: Sequence[Video], new: np.ndarray, settings: drift.DriftSettings) -> list[Figure]:
    labels = class_indices([v.venue for v in videos], sorted({v.venue for v in videos if v.venue}))
    return drift.of_labels(labels[~new & (labels >= 0)], labels[new & (labels >= 0)], settings)


def _venues(case: Case, new: np.ndarray) -> dict[str, list[str]]:
    """Venues that came and went.

    `learnt_anew`: the challenger knows them, the champion does not; `dropped`: the reverse, as too few videos are left;
    `too_few`: of the new crawls, but too few to be learnt; `not_seen`: not in the new crawls, though others
    are, and still learnt from earlier ones.
    """
    before = set(case.store.read_json(f"{case.champion}/model.json")["venues"])
    after = set(case.challenger.splits.venues)
    seen = {v.venue for v, is_new in zip(case.view.videos, new, strict=True) if is_new and v.venue}
    found = {
        "learnt_anew": after - before,
        "dropped": before - after,
        "too_few": seen - after,
        "not_seen": (before & after) - seen if seen else set(),
    }
    return {name: sorted(venues) for name, venues in found.items()}


def stop_at(figures: Sequence[Figure], case: Case) -> None:
    """Raises DriftError where a figure exceeds its limit, unless the settings let drift pass."""
    exceeded = [f for f in figures if f.exceeded]
    if not exceeded or not case.view.settings.drift.stop:
        return
    names = listed(news.crawl for news in case.news if news.n_videos)
    told = "; ".join(
        f"{f.subject} {f.name.replace('_', ' ')} is {f.value:.3g} where chance gives {f.by_chance:.3g}, "
        f"more than {f.limit:g} above that"
        for f in exceeded
    )
    raise DriftError(
        f"{names} has drifted from what {case.champion} was trained on: {told}. The champion stays, and what was "
        f"extracted is kept. See {case.store.url}/{case.notes}/drift.json. If it is meant to be so, go on with "
        f"--allow-drift, or let the extractors learn anew with --refit --allow-drift.",
        case.notes,
    )
