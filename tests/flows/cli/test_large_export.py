"""The memory of `nmcl export` on stores of many videos: it is that of the catalogue, never that of the vectors."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nmcl.flows.run.stages import Context
from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.export.registry import FORMATS
from nmcl.pipeline.records import State, Video
from nmcl.pipeline.storage.artifacts import save_state
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, make_part, save_catalogue
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_vectors

ROOT = Path(__file__).resolve().parents[3]
DIMS = {"visual": 2048, "acoustic": 200, "textual": 100}
ABSENT = {"visual": 0.02, "acoustic": 0.2, "textual": 0.14}
"""Shares of videos without a vector."""
LIMIT_BYTES, ROWS = 2 * 10**9, 270_000


def make_store(folder: Path, n_rows: int) -> Path:
    """Make a completed store of random vectors, as the stages write it. Returns its folder."""
    settings = from_tree({"features": "paper"})
    store, random = Store.create(folder), np.random.default_rng(0)
    remember(store, settings)
    videos = [
        Video(
            video_id=f"video{i:09d}",
            crawl="crawl",
            path=f"2026/{i:09d}.mp4",
            sha256=f"{i:064x}",
            n_bytes=1000,
            description=f"the words of video {i}" if i % 7 else None,
            venue=f"Venue {i % 188}" if i % 3 else None,
            split=None,
            duplicate_of=None,
        )
        for i in range(n_rows)
    ]
    parts = tuple(make_part(store, videos[i : i + 256]) for i in range(0, n_rows, 256))
    save_catalogue(store, Catalogue((Crawl("crawl", str(folder / "nowhere"), parts, ()),)))
    plan = Context(store, settings).plan()
    for number, part in enumerate(parts):
        ids = pa.array([video.video_id for video in videos[number * 256 : number * 256 + part.n_videos]])
        completed = {"video_id": ids}
        for name, dim in DIMS.items():
            vectors = random.standard_normal((part.n_videos, dim), dtype=np.float32)
            observed = random.random(part.n_videos) >= ABSENT[name]
            completed |= {name: from_vectors(vectors), f"{name}_observed": pa.array(observed)}
            vectors = np.where(observed[:, None], vectors, np.float32(np.nan))  # Arrow keeps the array above
            columns = {"video_id": ids, "vector": from_vectors(vectors)}
            store.write(plan.features[name].part(part.key), encode(pa.table(columns)))
        store.write(plan.completed.part(part.key), encode(pa.table(completed)))
    save_state(store, plan.completion, State())
    return folder


COMMAND = """
import atexit, re, sys
from pathlib import Path

peak = Path(sys.argv.pop(1))
atexit.register(lambda: peak.write_text(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
from nmcl.flows.cli.main import main

main()
"""


def peak_bytes(tmp_path: Path, *words: object) -> int:
    """The largest resident memory of a command that succeeds.

    That of `wait4` would be at least the memory of this process, which the new one shares until it starts Python.
    """
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "peak"), *map(str, words)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL, check=True)
    return int((tmp_path / "peak").read_text()) * 1024


@pytest.mark.long
def test_270000_rows_are_exported_within_two_gigabytes(tmp_path: Path) -> None:
    """By what each further row takes: of a format that is written row by row, and of one that is one pickle."""
    small, big = 2_560, 25_600
    stores = {n: make_store(tmp_path / f"{n}", n) for n in (small, big)}
    for form in ("parquet", "mmsa"):
        to = [tmp_path / f"{n}-{FORMATS[form].default}" for n in stores]
        peaks = [
            peak_bytes(tmp_path, "export", "--out", store, "--format", form, "--to", path)
            for store, path in zip(stores.values(), to, strict=True)
        ]
        assert to[1].stat().st_size > big * sum(DIMS.values()) * 3.5
        per_row = max(0, peaks[1] - peaks[0]) / (big - small)
        assert peaks[0] + per_row * (ROWS - small) < LIMIT_BYTES, (form, peaks)
