"""A Prefect server and a crawl for the tests of engines and object stores."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmcl.flows.run import runs, stages
from nmcl.flows.run.stages import Context
from nmcl.flows.service.server import free_port, start, wait_until_ready
from nmcl.flows.settings import Settings, from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.store import Store
from tests.media import shades, tone, write_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of commands that use one Prefect server."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    quiet = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)}
    found = {**kept, **quiet, "PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    server = start(home, port, "--no-ui", env=found)
    try:
        wait_until_ready(server, found["PREFECT_API_URL"], home)
        yield found
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def small_crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen clips of two venues, some without sound or words, and a file that is none."""
    crawl = tmp_path_factory.mktemp("crawl") / "clips"
    crawl.mkdir()
    lines = ["path,description,venue", "broken.mp4,no video,Beach"]
    (crawl / "broken.mp4").write_bytes(b"no video")
    for i in range(13):
        venue, words = (("Beach", "sand sea sun"), ("Slope", "snow ski ice"))[i % 2]
        sound = tone(300 + 10 * i, 0.8) if i % 5 else None
        write_video(crawl / f"{i}.mp4", shades([20 + i, 60 + 100 * (i % 2)], 4), sound=sound)
        lines.append(f"{i}.mp4,{words if i % 4 else ''},{venue}")
    (crawl / "manifest.csv").write_text("\n".join(lines))
    return crawl


@pytest.fixture(scope="session")
def quick() -> Settings:
    """Settings that learn little from `small_crawl`, in seven parts."""
    return from_tree(
        {
            "features": {"words": {"extractor": "none"}, "ngrams": {"extractor": "none"}},
            "visual": {"backbone": "efficientnet_lite0"},
            "ingest": {"part_size": 2},
            "split": {"min_venue_videos": 4},
            "acoustic": {
                "max_frames": 100,
                "autoencoder": {"epochs": 0, "fine_tune_epochs": 0, "min_steps": 0},
            },
            "textual": {"min_words": 1000},
            "model": {"name": "logistic"},
        }
    )


@pytest.fixture(scope="session")
def fitted(small_crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which everything is fitted on `small_crawl`, and nothing extracted."""
    out = tmp_path_factory.mktemp("fitted") / "out"
    context = Context(Store.create(out), quick)
    remember(context.store, quick)
    stages.ingest(context, small_crawl)
    runs.up_to(context, "fit")
    return out


@pytest.fixture(scope="session")
def expected(fitted: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of it on a disk, with all threads."""
    out = tmp_path_factory.mktemp("expected") / "out"
    shutil.copytree(fitted, out)
    runs.up_to(Context(Store.open(out), quick), "complete")
    return made(Store.open(out))


@pytest.fixture(scope="session")
def trained(fitted: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run on `small_crawl`."""
    out = tmp_path_factory.mktemp("trained") / "out"
    shutil.copytree(fitted, out)
    runs.up_to(Context(Store.open(out), quick), "evaluate")
    return out


def made(store: Store) -> dict[str, bytes]:
    """Every file of vectors and failures, by name."""
    names = [
        f"{kind}/{artifact}/{part}"
        for kind in ("features", "completed", "failures")
        for artifact in store.list(kind)
        for part in store.list(f"{kind}/{artifact}")
    ]
    return {name: store.read(name) for name in names}
