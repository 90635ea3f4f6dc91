"""Benchmark of one decode for many feature sets, against one picture set and one sound set on the same files."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.visual import BACKBONES
from nmcl.flows.bench.material import make_crawl, source_of
from nmcl.pipeline.bench.measure import in_turns
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.crawl.manifest import read_crawl
from nmcl.pipeline.errors import ClipError, CrawlError
from nmcl.pipeline.media import MediaSettings, Request, decode
from nmcl.pipeline.needs import Frames, Need, Picture, Sound
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.scratch import scratch

CLIP = Preprocess(224, 224, "bicubic", (0.481, 0.458, 0.408), (0.269, 0.261, 0.276))
"""Preprocessing as for CLIP."""


@dataclass(frozen=True)
class Size:
    """Size of the benchmark."""

    videos: int = 48
    repeats: int = 3
    within_s: float = 90
    """Seconds after which no third round starts: see `in_turns`."""


FULL = Size(videos=480, repeats=5, within_s=math.inf)


class _Timed:
    """Preprocessing that sums up its own seconds."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self.seconds = 0.0

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        result = self._picture(picture)
        self.seconds += time.perf_counter() - start
        return result


def bench_decode(crawl: Path | None, size: Size | None = None, progress: Progress = silent) -> Result:
    """Measure the seconds of one thread for reading, decoding and resampling, with and without preprocessing.

    `one`: key frames of one picture model and one sound rate. `two`: the same frames for two picture models with two
    preprocessings, and the same sound for two sets. `many`: five picture models with three preprocessings, one of them
    also with other key frames, and two sound rates. `separate`: the same, one pass per feature set.
    """
    size = size or Size()
    one: list[Need] = [Frames(KeyFrames(8), BACKBONES["resnet50"].preprocess), Sound()]
    two = [*one, Frames(KeyFrames(8), BACKBONES["efficientnet_lite0"].preprocess)]
    pictures = [BACKBONES[name].preprocess for name in ("resnet50", "resnet101", "efficientnet_lite0")] + [CLIP]
    many: list[Need] = [Frames(KeyFrames(8), picture) for picture in pictures]
    many += [Frames(KeyFrames(16), CLIP), Sound(), Sound(16_000)]
    with scratch("bench") as folder:
        source, origin = source_of(crawl, folder / "sample", progress)
        made = make_crawl(source, size.videos, folder / "crawl")
        files = [folder / "crawl" / entry.path for entry in read_crawl(folder / "crawl", ColumnSettings()).entries]
        passes = {"one": [one], "two": [two], "many": [many], "separate": [[need] for need in many]}
        preprocessing = dict.fromkeys(passes, 0.0)

        def measure(name: str) -> float:
            start = time.perf_counter()
            preprocessing[name] = sum(_decoded(files, needs) for needs in passes[name])
            return time.perf_counter() - start - preprocessing[name]

        progress("bench decode", 0, 1)
        measured = in_turns({f"{name}_s": partial(measure, name) for name in passes}, size.repeats, size.within_s)
    progress("bench decode", 1, 1)
    figures = {
        "videos": float(size.videos),
        **measured,
        **{f"{name}_preprocessing_s": taken for name, taken in preprocessing.items()},
    }
    ratios = {
        "two_to_one": measured["two_s"] / measured["one_s"],
        "many_to_one": measured["many_s"] / measured["one_s"],
        "vs_separate": measured["many_s"] / measured["separate_s"],
    }
    notes = [
        f"{made}; {origin}",
        "one: a picture model and a sound rate; two: two picture models and two sound sets of one rate; many: five "
        "picture models with three preprocessings and two choices of key frames, and two sound rates; separate: a pass "
        "for each of these",
        "seconds of one thread without the scaling and cropping of pictures, which is preprocessing_s",
    ]
    return Result(figures, ratios, notes)


def _decoded(files: Sequence[Path], needs: Sequence[Need]) -> float:
    """Decode all files and return the seconds of the preprocessing."""
    timed = {need.picture: _Timed(need.picture) for need in needs if isinstance(need, Frames)}
    asked = tuple(Frames(n.selector, timed[n.picture]) if isinstance(n, Frames) else n for n in needs)
    for path in files:
        found = decode(Request(path, asked), MediaSettings())
        if isinstance(found, ClipError):
            raise CrawlError(f"A video of the benchmark cannot be decoded: {found.detail}. Pass intact videos.")
    return sum(picture.seconds for picture in timed.values())
