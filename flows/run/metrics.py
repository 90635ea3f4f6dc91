"""Figures of a store in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from itertools import chain

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from nmcl.flows.run.lineage import FrozenStates, frozen_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.settings import Settings
from nmcl.pipeline.storage.artifacts import Artifact
from nmcl.pipeline.storage.catalogue import Catalogue, load_catalogue, load_part
from nmcl.pipeline.storage.lineage import RecordedFailures, decoding_of_champion, recorded_failures
from nmcl.pipeline.storage.run_files import DriftNote
from nmcl.pipeline.storage.runs import Run, all_runs, champion, history
from nmcl.pipeline.storage.store import Store


def prometheus_text(store: Store, settings: Settings) -> str:
    """Return the figures of a store, each with its help text. Only numbers that the store has are in it."""
    registry = CollectorRegistry()
    catalogue = load_catalogue(store)
    runs = [run for run in all_runs(store) if run.is_finished]
    latest, best = next((run for run in runs if run.is_latest), None), champion(store)
    _parts_and_videos(registry, store, catalogue, settings, [run for run in (best, latest) if run])
    if latest:
        _latest_run(registry, latest)
    if best:
        _champion(registry, best)
    notes = [note for run in chain(all_runs(store), _drift_folders(store)) if (note := run.drift)]
    if notes:
        _drift(registry, max(notes, key=lambda note: note.when))
    return generate_latest(registry).decode()


def _drift_folders(store: Store) -> Iterator[Run]:
    return (Run(store, f"drift/{name}") for name in store.list("drift"))


def _parts_and_videos(
    registry: CollectorRegistry, store: Store, catalogue: Catalogue, settings: Settings, runs: list[Run]
) -> None:
    """Count videos by outcome, and parts without vectors.

    A part is finished if the champion or the latest run has its vectors; before the first run, those of the settings.
    """
    features: dict[str, list[Artifact]] = {}
    lineages: list[FrozenStates | Plan] = [frozen_of(run) for run in runs]
    if not lineages and catalogue.crawls:
        lineages = [Plan(store, catalogue, settings)]
    for made in lineages:
        for name, artifact in made.features.items():
            features.setdefault(name, []).append(artifact)
    parts = Gauge("nmcl_parts", "Parts of the catalogue.", registry=registry)
    parts.set(sum(1 for _ in catalogue.parts()))
    unfinished = Gauge(
        "nmcl_parts_unfinished", "Parts whose vectors are not extracted.", ["feature_set"], registry=registry
    )
    for name, artifacts in features.items():
        files = {file for artifact in artifacts for file in store.list(artifact.folder)}
        missing = sum(f"part-{part.key}.parquet" not in files for _, part in catalogue.parts())
        unfinished.labels(name).set(missing)
    videos = Gauge(
        "nmcl_videos",
        "Videos by outcome: ok, partial (picture or sound failed), failed (both), pending (not decoded yet).",
        ["outcome"],
        registry=registry,
    )
    kinds = Gauge("nmcl_failed_videos", "Videos with a failure of a kind.", ["kind"], registry=registry)
    recorded = recorded_failures(store, settings.media.address(), decoding_of_champion(store))
    outcomes, of_kind = _outcomes(store, catalogue, recorded)
    for outcome in ("ok", "partial", "failed", "pending"):
        videos.labels(outcome).set(outcomes[outcome])
    for kind, n in sorted(of_kind.items()):
        kinds.labels(kind).set(n)


def _outcomes(store: Store, catalogue: Catalogue, recorded: RecordedFailures) -> tuple[Counter[str], Counter[str]]:
    """Return the numbers of videos by outcome and by kind of failure."""
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for _, part in catalogue.parts():
        failures = recorded.of(part)
        if failures is None:
            outcomes["pending"] += part.n_videos
            continue
        outcomes["ok"] += part.n_videos
        for video in load_part(store, part):
            of_video = failures.get(video.video_id, ())
            if of_video:
                outcomes["ok"] -= 1
                outcomes["failed" if any(f.modality is None for f in of_video) else "partial"] += 1
                kinds.update({f.kind for f in of_video})
    return outcomes, kinds


def _latest_run(registry: CollectorRegistry, run: Run) -> None:
    metrics = run.require_metrics()
    splits = Gauge("nmcl_split_videos", "Labelled videos of the latest run by split.", ["split"], registry=registry)
    for split in ("train", "validation", "test", "unlabelled"):
        splits.labels(split).set(metrics.counts[split])
    seconds = Gauge("nmcl_stage_seconds", "Seconds of each stage of the latest run.", ["stage"], registry=registry)
    for stage, spent in metrics.seconds.items():
        seconds.labels(stage).set(spent)
    ended = Gauge("nmcl_latest_run_timestamp_seconds", "When the latest run ended.", registry=registry)
    ended.set(_unix(run.when))


def _champion(registry: CollectorRegistry, run: Run) -> None:
    Gauge("nmcl_champion_info", "The champion.", ["run"], registry=registry).labels(run.folder).set(1)
    promoted = Gauge("nmcl_champion_timestamp_seconds", "When the champion was promoted.", registry=registry)
    promoted.set(_unix(history(run.store)[-1].when))
    score = Gauge("nmcl_champion_score", "Scores of the champion on its test videos.", ["score"], registry=registry)
    for name in (field.name for field in fields(run.require_metrics().test)):
        value = getattr(run.require_metrics().test, name)
        if value is not None and name != "n_rows":
            score.labels(name).set(value)
    n_rows = Gauge("nmcl_champion_test_videos", "Test videos of the champion.", registry=registry)
    n_rows.set(run.require_metrics().test.n_rows)


def _drift(registry: CollectorRegistry, note: DriftNote) -> None:
    names = ["subject", "figure"]
    value = Gauge(
        "nmcl_drift", "Drift of the newest videos, by feature set, files or labels.", names, registry=registry
    )
    chance = Gauge("nmcl_drift_by_chance", "Mean of the figure without any drift.", names, registry=registry)
    limit = Gauge("nmcl_drift_limit", "Limit of nmcl_drift minus nmcl_drift_by_chance.", names, registry=registry)
    exceeded = Gauge("nmcl_drift_exceeded", "1 if the limit is exceeded.", names, registry=registry)
    for subject, name, figure in note.flat:
        if figure.value is not None:
            value.labels(subject, name).set(figure.value)
        if figure.null_mean is not None:
            chance.labels(subject, name).set(figure.null_mean)
        limit.labels(subject, name).set(figure.limit)
        exceeded.labels(subject, name).set(figure.exceeded)
    stopped = Gauge("nmcl_drift_stopped", "1 if drift stopped the newest retraining.", registry=registry)
    stopped.set(note.stopped)


def _unix(when: str) -> float:
    """Return an ISO 8601 time in seconds since 1970."""
    return datetime.fromisoformat(when).timestamp()
