"""A Prefect server that dies while a command is at work, and what is left of a command that is killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from nmcl.flows.service.server import free_port, start, wait_until_ready
from tests.media import shades, tone, write_video

pytestmark = pytest.mark.services
NMCL = [sys.executable, "-c", "from nmcl.flows.cli.main import main; main()"]
SETTINGS = (
    "features.visual.extractor=efficientnet_lite0", "split.min_venue_videos=4", "ingest.part_size=1",
    "features.acoustic.max_frames=100", "features.acoustic.autoencoder.epochs=0",
    "features.acoustic.autoencoder.fine_tune_epochs=0", "features.acoustic.autoencoder.min_steps=0",
    "features.textual.min_words=1000", "model.name=logistic",
)  # fmt: skip


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many small videos: a part each, so that extraction takes a while."""
    folder = tmp_path_factory.mktemp("crawl") / "clips"
    folder.mkdir()
    first = write_video(folder / "0.mp4", shades([20, 120], 4), sound=tone(300, 0.8)).read_bytes()
    lines = ["path,description,venue"]
    for i in range(400):
        (folder / f"{i}.mp4").write_bytes(first + bytes(i))  # other bytes, the same video
        lines.append(f"{i}.mp4,words of {i},{'Beach' if i % 2 else 'Slope'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    (tmp_path / "tmp").mkdir()
    return {**kept, "PREFECT_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}


@pytest.fixture
def run(crawl: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `nmcl run`."""
    started: list[subprocess.Popen[str]] = []

    def command(environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
        sets = [part for name in SETTINGS for part in ("--set", name)]
        arguments = ["run", str(crawl), "--out", str(tmp_path / "out"), *sets, *options]
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen([*NMCL, *arguments], env=environment, stderr=said, text=True)
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.wait()


def until(holds: Callable[[], object], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def is_extracting(out: Path) -> bool:
    return len(list(out.glob("features/visual-*/part-*"))) >= 3


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_the_death_of_the_own_server_is_said(run: Callable, environment: dict[str, str], tmp_path: Path) -> None:
    process = run(environment)
    until(lambda: is_extracting(tmp_path / "out") or process.poll() is not None)
    (server,) = [p for p in psutil.Process(process.pid).children() if "prefect" in p.cmdline()]
    server.kill()
    assert process.wait(120) == 2
    said = (tmp_path / "said").read_text()
    assert "error: The Prefect server at http://127.0.0.1" in said
    assert "run the same command to resume with a new server" in said
    assert "Traceback" not in said


def test_a_server_elsewhere_is_waited_for_aloud(run: Callable, environment: dict[str, str], tmp_path: Path) -> None:
    home, port = tmp_path / "remote", free_port()
    home.mkdir()
    url = f"http://127.0.0.1:{port}/api"
    environment |= {"PREFECT_API_URL": url, "PREFECT_HOME": str(home)}
    server = start(home, port, "--no-ui", env=environment)
    try:
        wait_until_ready(server, url, home)
        process = run(environment)
        until(lambda: is_extracting(tmp_path / "out") or process.poll() is not None)
        server.kill()
        server.wait()
        assert process.wait(200) == 2
    finally:
        server.kill()
        server.wait()
    said = (tmp_path / "said").read_text()
    assert f"error: The Prefect server at {url} no longer responds" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("engine", ["own", "processes", "threads", "ray", "dask"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_killed_run_runs_on(
    engine: str, number: signal.Signals, run: Callable, environment: dict[str, str], tmp_path: Path
) -> None:
    if engine in ("ray", "dask"):
        pytest.importorskip(engine)
    with tempfile.TemporaryDirectory(prefix="r") as short:  # Ray's sockets have short names
        environment |= {"TMPDIR": short} if engine == "ray" else {}
        process = run(environment, *(() if engine == "own" else ("--engine", engine, "--workers", "2")))
        until(lambda: is_extracting(tmp_path / "out") or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "said").read_text()
        processes = family(process)
        os.kill(process.pid, number)
        process.wait(120)
        until(lambda: not alive(processes), 120)
    said = (tmp_path / "said").read_text()
    assert process.returncode == (143 if number == signal.SIGTERM else -9), said
    assert "Traceback" not in said
    if number == signal.SIGTERM:
        assert "Ended by SIGTERM" in said
        assert not list((tmp_path / "tmp").glob("*nmcl-*"))
