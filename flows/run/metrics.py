"""Figures of a store in Prometheus' text format."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import chain

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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
    return generate_latest(_Figures(store, settings)).decode()


@dataclass(frozen=True)
class _Figures(Collector):
    store: Store
    settings: Settings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        store = self.store
        runs = [run for run in all_runs(store) if run.is_finished]
        latest, best = next((run for run in runs if run.is_latest), None), champion(store)
        yield from _parts_and_videos(store, self.settings, [run for run in (best, latest) if run])
        if latest:
            yield from _latest_run(latest)
        if best:
            yield from _champion(best)
        notes = [note for run in chain(all_runs(store), _drift_folders(store)) if (note := run.drift)]
        if notes:
            yield from _drift(max(notes, key=lambda note: note.when))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _gauges(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]
) -> GaugeMetricFamily:
    """Return a figure with one value for each combination of labels."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


def _drift_folders(store: Store) -> Iterator[Run]:
    return (Run(store, f"drift/{name}") for name in store.list("drift"))


def _parts_and_videos(store: Store, settings: Settings, runs: list[Run]) -> Iterator[GaugeMetricFamily]:
    """Count videos by outcome, and parts without vectors.

    A part is finished if the champion or the latest run has its vectors; before the first run, those of the settings.
    """
    catalogue = load_catalogue(store)
    features: dict[str, list[Artifact]] = {}
    lineages: list[FrozenStates | Plan] = [frozen_of(run) for run in runs]
    if not lineages and catalogue.crawls:
        lineages = [Plan(store, catalogue, settings)]
    for made in lineages:
        for name, artifact in made.features.items():
            features.setdefault(name, []).append(artifact)
    parts = [part for _, part in catalogue.parts()]
    unfinished = []
    for name, artifacts in features.items():
        files = {file for artifact in artifacts for file in store.list(artifact.folder)}
        unfinished.append(([name], sum(f"part-{part.key}.parquet" not in files for part in parts)))
    outcomes, kinds = _outcomes(
        store, catalogue, recorded_failures(store, settings.media.address(), decoding_of_champion(store))
    )
    yield _gauge("nmcl_parts", "Parts of the catalogue.", len(parts))
    yield _gauges("nmcl_parts_unfinished", "Parts whose vectors are not extracted.", ["feature_set"], unfinished)
    yield _gauges(
        "nmcl_videos",
        "Videos by outcome: ok, partial (picture or sound failed), failed (both), pending (not decoded yet).",
        ["outcome"],
        (([outcome], outcomes[outcome]) for outcome in ("ok", "partial", "failed", "pending")),
    )
    of_kind = (([kind], n) for kind, n in sorted(kinds.items()))
    yield _gauges("nmcl_failed_videos", "Videos with a failure of a kind.", ["kind"], of_kind)


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


def _latest_run(run: Run) -> Iterator[GaugeMetricFamily]:
    metrics = run.require_metrics()
    splits = (([split], metrics.counts[split]) for split in ("train", "validation", "test", "unlabelled"))
    yield _gauges("nmcl_split_videos", "Labelled videos of the latest run by split.", ["split"], splits)
    seconds = (([stage], spent) for stage, spent in metrics.seconds.items())
    yield _gauges("nmcl_stage_seconds", "Seconds of each stage of the latest run.", ["stage"], seconds)
    yield _gauge("nmcl_latest_run_timestamp_seconds", "When the latest run ended.", _unix(run.when))


def _champion(run: Run) -> Iterator[GaugeMetricFamily]:
    yield _gauges("nmcl_champion_info", "The champion.", ["run"], [([run.folder], 1)])
    promoted = _unix(history(run.store)[-1].when)
    yield _gauge("nmcl_champion_timestamp_seconds", "When the champion was promoted.", promoted)
    test = run.require_metrics().test
    values = {field.name: getattr(test, field.name) for field in fields(test) if field.name != "n_rows"}
    scores = (([name], value) for name, value in values.items() if value is not None)
    yield _gauges("nmcl_champion_score", "Scores of the champion on its test videos.", ["score"], scores)
    yield _gauge("nmcl_champion_test_videos", "Test videos of the champion.", test.n_rows)


def _drift(note: DriftNote) -> Iterator[GaugeMetricFamily]:
    names = ["subject", "figure"]
    flat = [((subject, name), figure) for subject, name, figure in note.flat]
    values = ((of, figure.value) for of, figure in flat if figure.value is not None)
    yield _gauges("nmcl_drift", "Drift of the newest videos, by feature set, files or labels.", names, values)
    chance = ((of, figure.null_mean) for of, figure in flat if figure.null_mean is not None)
    yield _gauges("nmcl_drift_by_chance", "Mean of the figure without any drift.", names, chance)
    limits = ((of, figure.limit) for of, figure in flat)
    yield _gauges("nmcl_drift_limit", "Limit of nmcl_drift minus nmcl_drift_by_chance.", names, limits)
    exceeded = ((of, figure.exceeded) for of, figure in flat)
    yield _gauges("nmcl_drift_exceeded", "1 if the limit is exceeded.", names, exceeded)
    yield _gauge("nmcl_drift_stopped", "1 if drift stopped the newest retraining.", note.stopped)


def _unix(when: str) -> float:
    """Return an ISO 8601 time in seconds since 1970."""
    return datetime.fromisoformat(when).timestamp()
