"""Runs whose extractors learn nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows.retrain.context import Options, prepare, settings_for
from nmcl.flows.retrain.drift import measure_drift
from nmcl.flows.run import runs, stages
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings
from nmcl.pipeline.needs import Sound, Text
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State
from nmcl.pipeline.storage.store import Store
from tests.media import shades, tone, write_video


class LearnsNothing:
    """The part that both extractors share."""

    fit_videos = 0
    dim = 1

    def __init__(self, settings: object) -> None:
        pass

    def address(self) -> dict[str, object]:
        return {"extractor": type(self).__name__}

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        raise AssertionError("nothing is to be learned")


class Loudness(LearnsNothing):
    """Mean magnitude of the sound."""

    modality: Modality = "acoustic"
    need = Sound()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        values = [np.nan if clip.waveform is None else np.abs(clip.waveform.astype(float)).mean() for clip in clips]
        return np.array(values, np.float32).reshape(-1, 1)


class Length(LearnsNothing):
    """Letters of the description."""

    modality: Modality = "textual"
    need = Text()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        values = [len(clip.text) if clip.text else np.nan for clip in clips]
        return np.array(values, np.float32).reshape(-1, 1)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch, small_crawl: Path, quick: Settings, tmp_path: Path) -> Context:
    """A store with `small_crawl`, in whose extractors nothing is learned."""
    for name, build in (("sda", Loudness), ("paragraph_vectors", Length)):
        monkeypatch.setitem(EXTRACTORS, name, replace(EXTRACTORS[name], build=build))
    context = Context(Store.create(tmp_path / "out"), quick)
    stages.ingest(context, small_crawl)
    return context


def test_a_run_is_evaluated_and_drift_measured_without_any_state(context: Context, tmp_path: Path) -> None:
    plan = runs.up_to(context, "evaluate")
    assert plan.states == {}
    metrics = plan.result.require_metrics()
    assert metrics.autoencoder == {"held_out_relative_error": None}
    assert metrics.modalities.keys() == {"visual", "acoustic", "textual"}

    later = tmp_path / "later"
    later.mkdir()
    write_video(later / "a.mp4", shades([30, 90], 4), sound=tone(500, 0.8))
    (later / "manifest.csv").write_text("path,description,venue\na.mp4,sand and sea,Beach\n")
    options = Options()
    context = settings_for(context, {}, options)
    stages.ingest(context, later)
    inputs = prepare(context, [later], options)
    stages.extract(context, inputs.champion_plan)
    assert {"visual", "acoustic", "textual"} <= measure_drift(context, inputs).figures.keys()
