"""Drift of the new videos of a retraining against the champion's crawls."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from nmcl.extractors.textual import TextualExtractor, unknown_words
from nmcl.flows.retrain.context import RetrainContext, now
from nmcl.flows.run.prediction import failures_of
from nmcl.flows.run.stages import Context
from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.errors import DriftError
from nmcl.pipeline.features import class_indices
from nmcl.pipeline.records import State, Video
from nmcl.pipeline.stages import drift
from nmcl.pipeline.stages.complete import load_features
from nmcl.pipeline.storage.artifacts import load_state
from nmcl.pipeline.storage.run_files import ClassChanges, DriftFigure, DriftNote
from nmcl.pipeline.storage.runs import DRIFT
from nmcl.pipeline.text import listed


def measure_drift(context: Context, inputs: RetrainContext) -> DriftNote:
    """Measure drift of the new videos against the champion's crawls, and write the note to `inputs.notes`."""
    plan, settings = inputs.champion_plan, context.settings.drift
    store, videos = plan.store, plan.videos
    old = {part.key for _, part in inputs.lineage.catalogue.parts()}
    new = np.concatenate([np.full(part.n_videos, part.key not in old) for _, part in plan.catalogue.parts()])
    failures = failures_of(store, plan.failures, plan.catalogue, videos)
    failed = np.array([any(f.modality is None for f in of_video) for of_video in failures])
    figures = {"files": drift.of_files(failed[~new], failed[new], settings)}
    sampled = drift.sample(~new & ~failed, settings) | drift.sample(new & ~failed, settings)
    for number, (name, artifact) in enumerate(plan.features.items()):
        context.progress("drift", number, len(plan.features), name)
        vectors = load_features(store, plan.catalogue, artifact, sampled)
        is_new = new[sampled]
        figures[name] = drift.of_vectors(vectors[~is_new], vectors[is_new], settings)
        if isinstance(plan.extractors.all[name], TextualExtractor) and name in plan.states:
            figures[name] |= _drift_of_words(inputs, name, new, load_state(plan.store, plan.states[name]))
    context.progress("drift", len(plan.features), len(plan.features))
    figures["labels"] = _drift_of_labels(videos, new, settings)
    exceeded = tuple(f"{s}.{name}" for s, found in figures.items() for name, f in found.items() if f.exceeded)
    note = DriftNote(
        champion=inputs.champion.folder,
        crawls=inputs.fresh(),
        figures=figures,
        exceeded=exceeded,
        stopped=bool(exceeded) and settings.stop,
        settings=asdict(settings),
        diffs=inputs.diffs,
        classes=_class_changes(inputs, new),
        when=now(),
    )
    inputs.notes.write(note)
    return note


def was_measured(inputs: RetrainContext) -> bool:
    """Whether drift of the same videos was measured in the same way before, and did not stop the retraining."""
    note, settings = inputs.notes.drift, asdict(inputs.champion_plan.settings.drift)
    if note is None:
        return False
    known = with_references(drift.DriftSettings, note.settings) | {"stop": settings["stop"]}
    of = (note.champion, note.crawls, known)
    return of == (inputs.champion.folder, inputs.fresh(), settings) and not note.stopped


def _drift_of_words(inputs: RetrainContext, name: str, new: np.ndarray, state: State) -> dict[str, DriftFigure]:
    """Measure drift against held-out texts, on which the paragraph vectors were not fitted either."""
    plan, splits = inputs.champion_plan, inputs.lineage.splits
    texts = [plan.text(name, video) for video in plan.videos]
    described = [text is not None for text in texts]
    held_out = [splits.get(v.sha256) in ("validation", "test") for v in plan.videos]
    words = [
        unknown_words([text or "" for text, c in zip(texts, chosen, strict=True) if c], state)
        for chosen in (~new & held_out & described, new & described)
    ]
    return drift.of_words(words[0], words[1], plan.settings.drift)


def _drift_of_labels(videos: Sequence[Video], new: np.ndarray, settings: drift.DriftSettings) -> dict[str, DriftFigure]:
    labels = class_indices([v.venue for v in videos], sorted({v.venue for v in videos if v.venue}))
    return drift.of_labels(labels[~new & (labels >= 0)], labels[new & (labels >= 0)], settings)


def _class_changes(inputs: RetrainContext, new: np.ndarray) -> ClassChanges:
    card = inputs.champion.model
    before, after = set(card.classes if card else ()), set(inputs.challenger.splits.classes)
    seen = {v.venue for v, is_new in zip(inputs.champion_plan.videos, new, strict=True) if is_new and v.venue}
    return ClassChanges(
        added=tuple(sorted(after - before)),
        dropped=tuple(sorted(before - after)),
        too_few=tuple(sorted(seen - after)),
        not_seen=tuple(sorted((before & after) - seen)) if seen else (),
    )


def stop_at(note: DriftNote, inputs: RetrainContext) -> None:
    """Raise DriftError if a figure exceeds its limit, unless the settings allow drift."""
    if not note.stopped:
        return
    found = "; ".join(
        f"{subject} {name.replace('_', ' ')} is {f.value:.3g} where chance gives {f.null_mean:.3g}, "
        f"more than {f.limit:g} above that"
        for subject, name, f in note.flat
        if f.exceeded
    )
    names, folder = listed(diff.crawl for diff in inputs.diffs if diff.n_videos), inputs.notes.folder
    raise DriftError(
        f"{names} has drifted from what {note.champion} was trained on: {found}. The champion stays, and what was "
        f"extracted is kept. See {inputs.store.url}/{folder}/{DRIFT}. If this is intended, continue with "
        f"--allow-drift, or fit the extractors again with --refit --allow-drift.",
        folder,
    )
