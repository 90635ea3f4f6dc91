"""Benchmark of end-to-end extraction against the minimal decoding and arithmetic, and against a plain loop."""

import math
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from nmcl.extractors import bench as plain
from nmcl.extractors.visual import VisualExtractor, VisualSettings
from nmcl.flows.bench.material import make_crawl, settings_with, source_of
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.run import stages
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.pipeline.bench.decoding import every_frame, n_needed
from nmcl.pipeline.bench.measure import in_turns, seconds
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.errors import ClipError, CrawlError
from nmcl.pipeline.extractor import vectors_of
from nmcl.pipeline.media import Decoder, MediaSettings, Request, decode
from nmcl.pipeline.media.frames import selected
from nmcl.pipeline.needs import Frames, Sound
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Clip, Content, Video
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.stages.complete import load_features
from nmcl.pipeline.storage.artifacts import load_state
from nmcl.pipeline.storage.store import Store

RESNET = FeatureChoice("resnet50", VisualSettings(weights="random"))
"""Random weights: published ones may not be available, and no operation depends on their values."""


@dataclass(frozen=True)
class Size:
    """Size of the benchmark."""

    videos: int = 256
    plain: int = 72
    """Number of these videos that the plain loop processes, a few in each round."""
    repeats: int = 3
    within_s: float = 120
    """Seconds after which no third round starts: see `in_turns`."""
    visual: FeatureChoice[VisualSettings] = RESNET


FULL = Size(videos=960, plain=480, repeats=5, within_s=math.inf)


def bench_extract(crawl: Path | None, size: Size | None = None, progress: Progress = silent) -> Result:
    """Measure the seconds of the stage `extract`, its lower bound and the plain loop on the same files."""
    size = size or Size()
    with scratch("bench") as folder:
        source, origin = source_of(crawl, folder / "sample", progress)
        made = make_crawl(source, size.videos, folder / "crawl")
        settings = settings_with(size.visual)
        context = Context(Store.create(folder / "out"), settings, progress)
        stages.ingest(context, folder / "crawl")
        plan = context.plan()
        stages.fit(context, plan)
        progress("bench extract", 0, 2, "interleaved with a plain loop and the floor")
        loop = PlainLoop(plan, size)
        spawn = get_context("spawn")
        with Decoder(settings.media) as decoder, ProcessPoolExecutor(decoder.workers, spawn) as pool:
            decoding = Decoding(plan, decoder, pool)
            measured = _measure(context, plan, decoding, loop, size)
        progress("bench extract", 1, 2, "comparing vectors")
        floor = _floor(plan, decoding, measured)
        agreement = _agreement(plan, loop.vectors)
    progress("bench extract", 2, 2)
    figures = {
        "videos": float(size.videos),
        "videos_per_s": size.videos / measured["extract_s"],
        "sequential_videos": float(len(loop.vectors)),
        **measured,
        **floor,
        **agreement,
    }
    ratios = {
        "to_floor": measured["extract_s"] / floor["floor_s"],
        "vs_sequential": measured["sequential_video_s"] / (measured["extract_s"] / size.videos),
    }
    return Result(figures, ratios, [f"{made}; {origin}", *_notes(plan, loop)])


def _measure(context: Context, plan: Plan, decoding: "Decoding", loop: "PlainLoop", size: Size) -> dict[str, float]:
    visual = visual_of(plan)
    measures: dict[str, Callable[[], float]] = {
        "extract_s": lambda: seconds(lambda: _extract_anew(context)),
        "our_decoding_alone_s": lambda: seconds(decoding.ours),
        "floor_decode_s": lambda: seconds(decoding.least),
        "sequential_video_s": loop,
        "gemm_flops_per_s": lambda: plain.torch_gemm_flops_per_s(visual.is_bfloat16, visual.device),
        "gemm_float32_flops_per_s": plain.torch_gemm_flops_per_s,
    }
    return in_turns(measures, size.repeats, size.within_s)


def visual_of(plan: Plan) -> VisualExtractor:
    """Return the extractor of pictures of a benchmark's plan."""
    extractor = plan.extractors.all["visual"]
    assert isinstance(extractor, VisualExtractor)
    return extractor


def _notes(plan: Plan, loop: "PlainLoop") -> list[str]:
    visual = visual_of(plan)
    return [
        f"{visual.name} with weights={visual.settings.weights}, {visual.settings.key_frames} key frames, "
        f"{'bfloat16' if visual.is_bfloat16 else 'float32'} on {visual.device}",
        "extract_s: the whole stage, from starting the decoding processes to writing the parts",
        "floor: FFmpeg in process decodes only the chosen frames, the frames they refer to and the sound; plus the "
        "operations of both networks at the measured rate of their precision; all cores; with a GPU, the larger of "
        "decoding and networks, which run in parallel",
        f"sequential: {len(loop.vectors)} of the videos, divided among the rounds; OpenCV reads every frame, the eager "
        "float32 network processes one video at a time, ffmpeg and librosa one file at a time",
        "cosines with the sequential loop: minimum over all videos; centred: after subtracting the mean over videos",
    ]


def _extract_anew(context: Context) -> None:
    """Delete existing results, then extract with newly loaded networks."""
    for made in ("features", "failures"):
        shutil.rmtree(context.store.local_path(made), ignore_errors=True)
    stages.extract(context, context.plan())


def _path(plan: Plan, video: Video) -> Path:
    return Path(plan.catalogue.crawls[0].folder) / video.path


@dataclass(frozen=True)
class Needed:
    """The frames and sound of one video that must be decoded."""

    times_s: tuple[float, ...]
    """Times of the key frames."""
    n_sound_frames: int


class Decoding:
    """The same decoding without waiting for a network, and the minimal decoding. Both use all cores."""

    def __init__(self, plan: Plan, decoder: Decoder, pool: ProcessPoolExecutor) -> None:
        self.plan = plan
        self.decoder = decoder
        self.pool = pool
        self.paths = [_path(plan, video) for video in plan.videos]
        self.requests = [Request(path, (visual_of(plan).need, Sound())) for path in self.paths]
        self.needed = self.ours()
        self.n_frames_found = self.least()

    def ours(self) -> list[Needed]:
        """Return the frames and sound that the extractor chooses from each video."""
        return [_needed(content, visual_of(self.plan).need) for content in self.decoder.contents(self.requests)]

    def least(self) -> int:
        """Return how many of the chosen frames the fastest method finds."""
        times_s = [of_video.times_s for of_video in self.needed]
        return sum(self.pool.map(n_needed, self.paths, times_s, chunksize=2))


def _needed(content: Content | ClipError, pictures: Frames) -> Needed:
    if isinstance(content, ClipError):
        raise CrawlError(
            f"A video of the benchmark cannot be decoded: {content.detail}. Pass a crawl of intact videos with --crawl."
        )
    waveform = content.clip(Sound()).waveform
    sound = 0 if waveform is None else plain.n_sound_frames(waveform)
    return Needed(content.clip(pictures).frame_times_s, sound)


class PlainLoop:
    """A straightforward implementation that processes one video at a time."""

    def __init__(self, plan: Plan, size: Size) -> None:
        self.plan = plan
        self.videos_a_round = max(1, size.plain // size.repeats)
        self.vectors: list[dict[str, np.ndarray]] = []
        """Vectors of all processed videos by modality, without absent ones."""
        self.device = visual_of(plan).device
        self.network = visual_of(plan).plain_network().to(self.device)
        self.sound = load_state(plan.store, plan.states.get("acoustic"))
        self.words = load_state(plan.store, plan.states.get("textual"))

    def __call__(self) -> float:
        """Process the next few videos. Returns the seconds per video."""
        share = self.plan.videos[len(self.vectors) :][: self.videos_a_round]
        return seconds(lambda: self.vectors.extend(map(self.vectors_of, share))) / len(share)

    def vectors_of(self, video: Video) -> dict[str, np.ndarray]:
        """Return the vectors of a video by modality."""
        path, visual = _path(self.plan, video), visual_of(self.plan)
        frames = selected([visual.need], list(every_frame(path)))[visual.need].frames
        vectors = {"visual": plain.plain_visual(self.network, visual.backbone.preprocess, frames, self.device)}
        heard = decode(Request(path, (Sound(),)), MediaSettings())
        if isinstance(heard, Content) and heard.sounds and self.sound.arrays:
            vectors["acoustic"] = plain.plain_acoustic(heard.sounds[Sound()], self.sound)
        clip = Clip(text=video.description)
        (textual,) = vectors_of(self.plan.extractors.all["textual"].extract([clip], self.words))
        return vectors if np.isnan(textual).any() else {**vectors, "textual": textual}


def _floor(plan: Plan, decoding: Decoding, measured: dict[str, float]) -> dict[str, float]:
    """Return the seconds of the fastest decoding, and of the networks' operations at the measured rate."""
    n_frames = sum(len(of_video.times_s) for of_video in decoding.needed)
    n_sound_frames = sum(of_video.n_sound_frames for of_video in decoding.needed)
    visual, sound = visual_of(plan), load_state(plan.store, plan.states.get("acoustic"))
    visual_s = n_frames * plain.flops_per_frame(visual) / measured["gemm_flops_per_s"]
    sound_s = n_sound_frames * plain.flops_per_sound_frame(sound) / measured["gemm_float32_flops_per_s"]
    decode_s = measured["floor_decode_s"]
    return {
        "key_frames": float(n_frames),
        "floor_key_frames": float(decoding.n_frames_found),
        "floor_network_s": visual_s + sound_s,
        "floor_s": decode_s + sound_s + visual_s if visual.device == "cpu" else max(decode_s + sound_s, visual_s),
    }


def _agreement(plan: Plan, vectors: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return the smallest cosine between the stored and the plain vectors of a video, raw and centred.

    There is one pair of values for each modality that any of the videos has.
    """
    found = {}
    for modality, artifact in plan.features.items():
        stored = load_features(plan.store, plan.catalogue, artifact)
        rows = [i for i, of_video in enumerate(vectors) if modality in of_video]
        if not rows:
            continue
        ours = stored[rows].astype(np.float64)
        theirs = np.stack([vectors[i][modality] for i in rows]).astype(np.float64)
        centre = theirs.mean(axis=0)
        found[f"{modality}_least_cosine"] = _least_cosine(ours, theirs)
        found[f"{modality}_least_centred_cosine"] = _least_cosine(ours - centre, theirs - centre)
    return found


def _least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the smallest cosine of two rows at the same place, both (N, D); rows of zeros are left out."""
    products = np.einsum("ij,ij->i", a, b)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float((products[lengths > 0] / lengths[lengths > 0]).min(initial=1.0))
