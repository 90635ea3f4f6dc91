"""What benches of extraction work on: real files, settings, and what the extractors have learnt of them."""

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from extractors.acoustic import AcousticSettings
from extractors.autoencoder import AutoencoderSettings
from extractors.textual import TextualSettings
from extractors.visual import VisualSettings
from flows.settings import Settings
from pipeline.columns import ColumnSettings
from pipeline.manifest import read_crawl
from pipeline.progress import Progress
from pipeline.sample import make_sample


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="nmcl-bench-") as folder:
        yield Path(folder)


def source_of(crawl: Path | None, folder: Path, progress: Progress) -> tuple[Path, str]:
    """The crawl that was named, or the sample rendered into `folder`; and what to say about it."""
    if crawl is not None:
        return crawl, "real files of the named crawl"
    make_sample(folder, progress=progress)
    return folder, "the rendered sample, not real videos: name some by --crawl"


def make_crawl(source: Path, n_videos: int, folder: Path, n_files: int | None = None) -> str:
    """A crawl of exactly n videos of another, with their descriptions; returns what to say about it.

    Where there are too few, hard links stand for more: other names, hence other rows, of the same bytes.

    Args:
        n_files: how many files of the other crawl are taken at most; None: all that are needed.
    """
    entries = read_crawl(source, ColumnSettings()).entries[:n_files]
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
    n_links = n_videos - len(copies)
    return f"{n_videos:,} videos" + (f", {n_links:,} of them hard links under other names" if n_links else "")


def settings_with(visual: VisualSettings) -> Settings:
    """Default settings, but extractors that learn in seconds: extraction costs the same whatever they learnt."""
    autoencoder = AutoencoderSettings(epochs=1, fine_tune_epochs=1, min_steps=0)
    return replace(
        Settings(),
        visual=visual,
        acoustic=AcousticSettings(fit_videos=16, autoencoder=autoencoder),
        textual=TextualSettings(fit_videos=1000, min_words=10_000),
    )
