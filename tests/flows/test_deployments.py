"""`nmcl up`, and the commands that people type then: a real server, a real worker, real runs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.server import free_port
from tests.media import shades, tone, write_video

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TINY = [
    *("--set", "visual.backbone=efficientnet_lite0"),
    *("--set", "split.min_venue_videos=4"),
    *("--set", "acoustic.max_frames=100"),
    *("--set", "acoustic.autoencoder.epochs=0"),
    *("--set", "acoustic.autoencoder.fine_tune_epochs=0"),
    *("--set", "acoustic.autoencoder.min_steps=0"),
    *("--set", "model.name=logistic"),
]


def run(*command: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """A command as typed in the root of the repository, with a PREFECT_HOME of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {"PREFECT_HOME": str(home), "COLUMNS": "200", "PATH": f"{BIN}:{os.environ['PATH']}"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def running(home: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((home / "service" / "running.json").read_text())
    return note


def ask(home: Path, what: str, **body: Any) -> Any:
    url, data = f"{running(home)['url']}/{what}/filter", json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def runs_of(home: Path, flow: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = ask(home, "flow_runs", flows={"name": {"any_": [flow]}})
    return [found for found in runs if found["deployment_id"]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `nmcl up` has been run; at the end, nothing of it is left."""
    folder = tmp_path_factory.mktemp("home")
    without = run("prefect", "deployment", "run", "extract-features", home=folder)
    assert without.returncode == 1
    assert without.stderr.startswith("No Prefect server runs. Start one with `nmcl up`")
    started = run("nmcl", "up", home=folder)
    try:
        assert started.returncode == 0, started.stderr
        assert running(folder)["url"].removesuffix("/api") in started.stdout
        pids = [running(folder)[name]["pid"] for name in ("server", "worker")]
        family = [p for pid in pids for p in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
        yield folder
    finally:
        stopped = run("nmcl", "down", home=folder)
    assert stopped.stdout == "Stopped.\n"
    assert not any(process.is_running() for process in family)
    again = run("nmcl", "down", home=folder)
    assert again.returncode == 0
    assert again.stdout.startswith("Nothing runs")


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of two venues, and a file that is none."""
    folder = tmp_path_factory.mktemp("crawl")
    lines = ["path,description,venue", "broken.mp4,no video,Beach"]
    (folder / "broken.mp4").write_bytes(b"no video")
    for i in range(12):
        venue, words = (("Beach", "sand sea sun"), ("Slope", "snow ski ice"))[i % 2]
        write_video(folder / f"{i}.mp4", shades([20 + i, 60 + 100 * (i % 2)], 4), sound=tone(300 + 10 * i, 0.8))
        lines.append(f"{i}.mp4,{words} {i},{venue}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def test_up_again_keeps_what_runs(home: Path) -> None:
    before = running(home)
    assert run("nmcl", "up", home=home).returncode == 0
    assert running(home) == before
    names = {deployment["name"] for deployment in ask(home, "deployments")}
    assert names == {"local"}
    flows = {flow["name"] for flow in ask(home, "flows")}
    assert {"extract-features", "train-nmcl", "retrain"} <= flows


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("crwal=videos", "not found on the deployment: 'crwal'"),
        ("crawl=7", "Validation failed for field 'crawl'"),
        ('settings={"visual": {"backbon": "resnet50"}}', "'backbon' was unexpected"),
    ],
)
def test_a_wrong_parameter_is_refused_before_there_is_a_run(home: Path, parameter: str, message: str) -> None:
    refused = run("prefect", "deployment", "run", "train-nmcl" if "settings" in parameter else "extract-features/local",
                  "--param", parameter, home=home)  # fmt: skip
    assert refused.returncode == 1
    assert message in " ".join((refused.stdout + refused.stderr).split())
    assert runs_of(home, "train-nmcl") == runs_of(home, "extract-features") == []


def test_a_night(home: Path, crawl: Path, tmp_path: Path) -> None:
    """A crawl lands; meanwhile somebody extracts features into the same store, and waits for the retraining."""
    out = tmp_path / "out"
    assert run("nmcl", "ingest", crawl, "--out", out, *TINY, home=home).returncode == 0  # the store keeps the settings
    announced = run("nmcl", "announce", crawl, "--out", out, home=home)
    assert announced.returncode == 0, announced.stderr
    command = ("prefect", "deployment", "run", "extract-features")
    extracted = run(*command, "--watch", "--param", f"crawl={crawl}", "--param", f"out={out}", home=home)
    assert extracted.returncode == 0, extracted.stdout + extracted.stderr

    end = time.monotonic() + 120
    while time.monotonic() < end and not [r for r in runs_of(home, "retrain") if r["state_type"] == "COMPLETED"]:
        time.sleep(0.5)
    (retrained,) = runs_of(home, "retrain")
    assert retrained["state_type"] == "COMPLETED", retrained["state"]
    assert retrained["parameters"]["crawl"] == str(crawl)
    assert (out / "latest" / "report.html").exists()

    artifacts = {artifact["key"]: artifact for artifact in ask(home, "artifacts")}
    assert artifacts["progress-extract"]["data"] == 100
    outcomes = {row["outcome"]: row["videos"] for row in json.loads(artifacts["outcomes"]["data"])}
    assert outcomes == {"extracted": 12, "unreadable": 1}
    assert (out / "latest").resolve().as_uri() in artifacts["report"]["data"]


def test_what_fails_to_write_is_tried_again(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "flaky.py"
    script.write_text(
        "from prefect import flow\n"
        "from flows.engine import as_tasks\n"
        "from pipeline.errors import StoreError\n"
        "tries = []\n"
        "def work(item):\n"
        "    tries.append(item)\n"
        "    if len(tries) == 1:\n"
        "        raise StoreError('busy') from OSError('busy')\n"
        "    if item == 'mistake':\n"
        "        raise ValueError(item)\n"
        "    return item\n"
        "@flow\n"
        "def flaky():\n"
        "    print(as_tasks('part', work, ['good']), len(tries))\n"
        "    try:\n"
        "        as_tasks('part', work, ['mistake'])\n"
        "    except ValueError:\n"
        "        print(len(tries))\n"
        "flaky()\n"
    )
    command = ("env", f"PREFECT_API_URL={running(home)['url']}", sys.executable, script)
    done = run(*command, home=home)
    assert done.stdout.split("\n")[:2] == ["['good'] 2", "3"], done.stderr


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of an empty PostgreSQL server, which refuses to run as root."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("initdb and pg_ctl of PostgreSQL are not on the PATH")
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    folder = tempfile.mkdtemp(prefix="nmcl-postgres-", dir="/tmp")  # a socket's path has at most 107 bytes
    if user:
        shutil.chown(folder, **user)

    def call(*command: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, cwd=folder, check=True, **user, **quiet)  # type: ignore[call-overload]

    port, data = free_port(), f"{folder}/data"
    call("initdb", "-D", data, "-U", "prefect", "-A", "trust", "--no-sync")
    call("pg_ctl", "-D", data, "-w", "-o", f"-p {port} -k {folder} -h 127.0.0.1", "start")
    try:
        yield f"postgresql://prefect@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_up_with_postgres(postgres: str, tmp_path: Path) -> None:
    try:
        started = run("nmcl", "up", "--database-url", postgres, home=tmp_path)
        assert started.returncode == 0, started.stderr
        assert len(ask(tmp_path, "deployments")) == 3
        assert not (tmp_path / "service" / "prefect.db").exists()
    finally:
        run("nmcl", "down", home=tmp_path)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    refused = run("nmcl", "up", "--database-url", f"postgresql://u@127.0.0.1:{free_port()}/none", home=tmp_path)
    assert refused.returncode == 2
    assert "server.log" in refused.stderr
    assert not (tmp_path / "service" / "running.json").exists()
