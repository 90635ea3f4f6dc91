"""Inputs of the extraction benchmarks: real files, settings and fitted extractor states."""

import csv
import os
import shutil
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from nmcl.extractors.acoustic import AcousticSettings
from nmcl.extractors.autoencoder import AutoencoderSettings
from nmcl.extractors.keyframes import EvenFrames
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.textual import TextualSettings
from nmcl.extractors.visual import VisualSettings
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.settings import Settings
from nmcl.pipeline.bench.decoding import every_frame
from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.crawl.manifest import read_crawl
from nmcl.pipeline.crawl.sample import make_sample
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.media import Decoder, MediaSettings, Request
from nmcl.pipeline.needs import Frames
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Content, Entry


def source_of(crawl: Path | None, folder: Path, progress: Progress) -> tuple[Path, str]:
    """Return the given crawl, or the sample rendered into `folder`, and a note about it."""
    if crawl is not None:
        return crawl, "real files of the given crawl"
    make_sample(folder, progress=progress)
    return folder, "the rendered sample, not real videos; pass real ones with --crawl"


def make_crawl(source: Path, n_videos: int, folder: Path, n_files: int | None = None) -> str:
    """Create a crawl of exactly n videos of another crawl, with their descriptions. Returns a note about it.

    If there are too few videos, hard links under other names fill the gap. Files that cannot be decoded are skipped.

    Args:
        n_files: Maximum number of files taken from the other crawl; None: as many as are needed.

    Raises:
        CrawlError: If none of its files can be decoded.
    """
    listed = read_crawl(source, ColumnSettings()).entries
    entries, n_left_out = _playing(source, listed, min(n_videos, n_files or n_videos))
    if not entries:
        raise CrawlError(
            f"None of the {len(listed):,} files of {source} can be decoded. Pass another crawl with --crawl."
        )
    folder.mkdir(parents=True)
    copies: dict[str, Path] = {}
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        manifest = csv.writer(file)
        manifest.writerow(["video_id", "video_path", "description"])
        for number, entry in enumerate(islice(cycle(entries), n_videos)):
            name = f"{number:06d}{Path(entry.path).suffix}"
            if entry.path in copies:
                os.link(copies[entry.path], folder / name)
            else:
                shutil.copyfile(source / entry.path, folder / name)
                copies[entry.path] = folder / name
            manifest.writerow([f"{folder.name}-{number:06d}", name, entry.description or ""])
    said = [f"{n_videos:,} videos"]
    if n_links := n_videos - len(copies):
        said.append(f"{n_links:,} of them hard links under other names")
    if n_left_out:
        said.append(f"skipped because they cannot be decoded: {n_left_out:,}")
    return ", ".join(said)


def _playing(source: Path, listed: Sequence[Entry], n: int) -> tuple[list[Entry], int]:
    """Return the first n files that both decoders can decode, and how many files were skipped."""
    playing: list[Entry] = []
    n_left_out = 0
    with Decoder(MediaSettings()) as decoder:
        contents = decoder.contents(Request(source / entry.path, (ONE_FRAME,)) for entry in listed)
        for entry, content in zip(listed, contents, strict=True):
            if len(playing) == n:
                break
            if isinstance(content, Content) and next(every_frame(source / entry.path), None):
                playing.append(entry)
            else:
                n_left_out += 1
    return playing, n_left_out


ONE_FRAME = Frames(EvenFrames(1), Preprocess())
"""One frame. It is chosen after decoding all frames, as some files take longer than allowed."""


def settings_with(visual: FeatureChoice[VisualSettings]) -> Settings:
    """Return default settings with extractors that are fitted in seconds: their state does not affect the cost."""
    autoencoder = AutoencoderSettings(epochs=1, fine_tune_epochs=1, min_steps=0)
    return Settings(
        features={
            "visual": visual,
            "acoustic": FeatureChoice("sda", AcousticSettings(fit_videos=16, autoencoder=autoencoder)),
            "textual": FeatureChoice("paragraph_vectors", TextualSettings(fit_videos=1000, min_words=10_000)),
        }
    )
