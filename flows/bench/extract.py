"""Extraction end to end, against the least decoding and arithmetic it needs, and against a plain loop."""

import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from extractors import bench as plain
from extractors.visual import VisualSettings
from flows import stages
from flows.bench.material import make_crawl, scratch, settings_with, source_of
from flows.plan import Plan
from flows.stages import Context
from pipeline.artifacts import load_state
from pipeline.bench.decoding import every_frame, n_needed
from pipeline.bench.measure import seconds
from pipeline.bench.result import Result
from pipeline.complete import load_features
from pipeline.errors import ClipError, CrawlError
from pipeline.media import Decoder, MediaSettings, Request, decode
from pipeline.progress import Progress, silent
from pipeline.records import Clip, Video
from pipeline.store import Store

RESNET = VisualSettings(backbone="resnet50", weights="random")
"""Random, as published weights may be out of reach, and no operation depends on their values."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    videos: int = 384
    plain: int = 96
    """Of them that the plain loop does."""
    repeats: int = 3
    visual: VisualSettings = RESNET


FULL = Size(videos=960, plain=480, repeats=5)


def bench_extract(crawl: Path | None, size: Size | None = None, progress: Progress = silent) -> Result:
    """Seconds of the stage `extract`, its floor and the plain loop on the same files."""
    size = size or Size()
    with scratch() as folder:
        source, origin = source_of(crawl, folder / "sample", progress)
        made = make_crawl(source, size.videos, folder / "crawl")
        settings = settings_with(size.visual)
        context = Context(Store.create(folder / "out"), settings, progress)
        stages.ingest(context, folder / "crawl")
        plan = context.plan()
        stages.fit(context, plan)
        ours_s = seconds(lambda: _extract_anew(context), size.repeats)
        progress("bench extract", 1, 4, "decoding")
        decode_s, needed = _decoding(plan, size.repeats)
        progress("bench extract", 2, 4, "a plain loop")
        loop = PlainLoop(plan)
        start = time.perf_counter()
        vectors = [loop(video) for video in plan.videos[: size.plain]]
        plain_s = time.perf_counter() - start
        progress("bench extract", 3, 4, "floor")
        floor = _floor(plan, needed, size.repeats)
        agreement = _agreement(plan, vectors)
    progress("bench extract", 4, 4)
    figures = {
        "videos": float(size.videos),
        "extract_s": ours_s,
        "videos_per_s": size.videos / ours_s,
        "our_decoding_alone_s": decode_s,
        "sequential_videos": float(len(vectors)),
        "sequential_s": plain_s,
        **floor,
        **agreement,
    }
    ratios = {"to_floor": ours_s / floor["floor_s"], "vs_sequential": plain_s / len(vectors) / (ours_s / size.videos)}
    notes = [
        f"{made}; {origin}",
        f"{size.visual.backbone} with weights={size.visual.weights}, {size.visual.key_frames} key frames, "
        f"{'bfloat16' if plan.extractors.visual.is_bfloat16 else 'float32'} on {plan.extractors.visual.device}",
        "extract_s: all of the stage, from the start of the decoding processes to the written parts",
        "floor: the chosen frames and the sound decoded by FFmpeg in process, other frames only where referred to; "
        "plus the operations of both networks at the measured rate of their precision; both over all cores; with a "
        "GPU the larger of decoding and networks, which do not share it",
        f"sequential: of the first {len(vectors)}; OpenCV reads every frame, the eager float32 network runs a video at "
        "a time, ffmpeg and librosa a file at a time; measured once",
        "cosines with the sequential loop, the least of all videos; centred: with the mean over videos taken off first",
    ]
    return Result(figures, ratios, notes)


def _extract_anew(context: Context) -> None:
    """Extract as if it had never been done, with networks loaded anew."""
    for made in ("features", "failures"):
        shutil.rmtree(context.store.local_path(made), ignore_errors=True)
    stages.extract(context, context.plan())


def _path(plan: Plan, video: Video) -> Path:
    return Path(plan.catalogue.crawls[0].folder) / video.path


@dataclass(frozen=True)
class Needed:
    """What of a video must be decoded."""

    times_s: tuple[float, ...]
    """Of the key frames."""
    n_sound_frames: int


def _decoding(plan: Plan, repeats: int) -> tuple[float, list[Needed]]:
    """Seconds of the same decoding with nobody waiting for a network, and what it chose of each video."""
    selector = plan.extractors.visual.frames
    requests = [Request(_path(plan, video), selector, waveform=True) for video in plan.videos]

    def run(decoder: Decoder) -> list[Needed]:
        return [_needed(clip) for clip in decoder.clips(requests)]

    with Decoder(plan.settings.media) as decoder:
        needed = run(decoder)
        return seconds(lambda: run(decoder), repeats), needed


def _needed(clip: Clip | ClipError) -> Needed:
    if isinstance(clip, ClipError):
        raise CrawlError(f"a video of the bench does not decode: {clip.detail}. Name a crawl of sound ones by --crawl.")
    sound = 0 if clip.waveform is None else plain.n_sound_frames(clip.waveform)
    return Needed(tuple(clip.frame_times_s), sound)


class PlainLoop:
    """One video after the other, as one would write it first."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = plan.extractors.visual.device
        self.network = plan.extractors.visual.plain_network().to(self.device)
        self.sound = load_state(plan.store, plan.states["acoustic"])
        self.words = load_state(plan.store, plan.states["textual"])

    def __call__(self, video: Video) -> dict[str, np.ndarray]:
        """Vectors by modality; absent ones are left out."""
        path, visual = _path(self.plan, video), self.plan.extractors.visual
        frames, _ = visual.frames(list(every_frame(path)))
        vectors = {"visual": plain.plain_visual(self.network, visual.backbone.preprocess, frames, self.device)}
        waveform = decode(Request(path, waveform=True), MediaSettings()).waveform
        if waveform is not None:
            vectors["acoustic"] = plain.plain_acoustic(waveform, self.sound)
        clip = Clip(description=video.description)
        (textual,) = self.plan.extractors.all["textual"].extract([clip], self.words)
        return vectors if np.isnan(textual).any() else {**vectors, "textual": textual}


def _floor(plan: Plan, needed: list[Needed], repeats: int) -> dict[str, float]:
    """Decoding by the fastest way over all cores, and the operations of the networks at the measured rate."""
    paths = [_path(plan, video) for video in plan.videos]
    times_s = [of_video.times_s for of_video in needed]
    with ProcessPoolExecutor(Decoder(plan.settings.media).workers, get_context("spawn")) as pool:

        def run() -> list[int]:
            return list(pool.map(n_needed, paths, times_s, chunksize=2))

        found = run()
        decode_s = seconds(run, repeats)
    visual = plan.extractors.visual
    visual_rate = plain.torch_gemm_flops_per_s(visual.is_bfloat16, visual.device)
    sound_rate = plain.torch_gemm_flops_per_s()
    n_frames = sum(map(len, times_s))
    visual_s = n_frames * plain.flops_per_frame(visual) / visual_rate
    sound = load_state(plan.store, plan.states["acoustic"])
    sound_s = sum(of_video.n_sound_frames for of_video in needed) * plain.flops_per_sound_frame(sound) / sound_rate
    on_cpu = visual.device == "cpu"
    return {
        "key_frames": float(n_frames),
        "floor_key_frames": float(sum(found)),
        "gemm_flops_per_s": visual_rate,
        "gemm_float32_flops_per_s": sound_rate,
        "floor_decode_s": decode_s,
        "floor_network_s": visual_s + sound_s,
        "floor_s": decode_s + sound_s + visual_s if on_cpu else max(decode_s + sound_s, visual_s),
    }


def _agreement(plan: Plan, vectors: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """The least cosine over the videos between stored and plain vectors, as they are and centred."""
    found = {}
    for modality, artifact in plan.features.items():
        stored = load_features(plan.store, plan.catalogue, artifact)
        rows = [i for i, of_video in enumerate(vectors) if modality in of_video]
        ours = stored[rows].astype(np.float64)
        theirs = np.stack([vectors[i][modality] for i in rows]).astype(np.float64)
        centre = theirs.mean(axis=0)
        found[f"{modality}_least_cosine"] = _least_cosine(ours, theirs)
        found[f"{modality}_least_centred_cosine"] = _least_cosine(ours - centre, theirs - centre)
    return found


def _least_cosine(a: np.ndarray, b: np.ndarray) -> float:
    products = np.einsum("ij,ij->i", a, b)
    return float((products / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).min())
