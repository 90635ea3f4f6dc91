"""`nmcl up`, and the commands that people type then: real servers, workers, databases and runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from nmcl.flows.feature_settings import DEFAULTS
from nmcl.flows.service.orphans import ask as service_ask
from nmcl.flows.service.server import LOG_BYTES, free_port
from nmcl.flows.settings import from_tree
from nmcl.flows.settings_tree import load_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.artifacts import digest
from nmcl.pipeline.storage.store import Store
from tests import own
from tests.media import shades, tone, write_video

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.services
BIN = Path(sys.executable).parent
TINY = [
    "features.visual.extractor=efficientnet_lite0",
    "features.visual.key_frames=1",
    "split.min_venue_videos=4",
    "features.acoustic.max_frames=100",
    "features.acoustic.autoencoder.epochs=0",
    "features.acoustic.autoencoder.fine_tune_epochs=0",
    "features.acoustic.autoencoder.min_steps=0",
    "completion.method=mean",
    "model.name=logistic",
]


def start(*command: str | Path, home: Path, **environment: str) -> subprocess.Popen[str]:
    """A command as typed in the root of the repository, with a PREFECT_HOME of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    own = {"PREFECT_HOME": str(home), "COLUMNS": "200", "PATH": f"{BIN}:{os.environ['PATH']}"}
    words = [str(word) for word in command]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, cwd=ROOT, env=kept | own | environment, text=True, **pipes)  # type: ignore[call-overload]


def end(started: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    stdout, stderr = started.communicate()
    return subprocess.CompletedProcess(started.args, started.returncode, stdout, stderr)


def run(*command: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    return end(start(*command, home=home))


def running(home: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((home / "service" / "running.json").read_text())
    return note


def family(home: Path) -> list[psutil.Process]:
    parents = [psutil.Process(running(home)[name]["pid"]) for name in ("server", "worker")]
    return [process for parent in parents for process in (parent, *parent.children(recursive=True))]


def ask(home: Path, what: str, **body: Any) -> Any:
    return service_ask(f"{running(home)['url']}/{what}/filter", body)


def runs_of(home: Path, flow: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = ask(home, "flow_runs", flows={"name": {"any_": [flow]}})
    return [found for found in runs if found["deployment_id"]]


def swept(home: Path, is_active: bool = True) -> dict[str, Any]:
    """The parameters with which the sweep runs by itself."""
    (found,) = [deployment for deployment in ask(home, "deployments") if deployment["schedules"]]
    assert [schedule["active"] for schedule in found["schedules"]] == [is_active]
    parameters: dict[str, Any] = found["parameters"]
    return parameters


def wait_for(condition: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str | None]:
    """The address of an empty PostgreSQL server, which refuses to run as root; None where it is not installed."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        yield None
        return
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    folder = tempfile.mkdtemp(prefix="nmcl-postgres-", dir="/tmp")  # a socket's path has at most 107 bytes
    if user:
        shutil.chown(folder, **user)

    def call(*command: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, cwd=folder, check=True, **user, **quiet)  # type: ignore[call-overload]

    port, data = free_port(), f"{folder}/data"
    call("initdb", "-D", data, "-U", "prefect", "-A", "trust", "--no-sync")
    call("pg_ctl", "-D", data, "-w", "-o", f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off", "start")
    try:
        yield f"postgresql://prefect@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def homes(postgres: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Where `nmcl up` runs, by database: both started at once, for speed. At the end, nothing of them is left."""
    folders = {"SQLite": tmp_path_factory.mktemp("sqlite")}
    without = run("prefect", "deployment", "run", "extract-features", home=folders["SQLite"])
    assert without.returncode == 1
    assert without.stderr.startswith("No Prefect server is running. Start one with `nmcl up`")
    watch = ("--watch", tmp_path_factory.mktemp("quiet"), "--out", "store")
    ups = [start("nmcl", "up", *watch, home=folders["SQLite"])]
    if postgres:
        folders["PostgreSQL"] = tmp_path_factory.mktemp("postgres")
        port = {"PREFECT_SERVER_API_PORT": str(free_port())}
        ups.append(start("nmcl", "up", "--database-url", postgres, home=folders["PostgreSQL"], **port))
    try:
        for up, home in zip(map(end, ups), folders.values(), strict=True):
            assert up.returncode == 0, up.stderr
            assert running(home)["url"].removesuffix("/api") in up.stdout
            assert up.stderr.split("\n")[:3] == [
                "Starting the server ...", "Starting the worker ...", "Registering the deployments ..."
            ]  # fmt: skip
        assert swept(folders["SQLite"]) == {"folder": str(watch[1]), "out": str(ROOT / "store")}
        wait_for(lambda: runs_of(folders["SQLite"], "sweep"))  # the server schedules them
        yield folders
        processes = [process for home in folders.values() for process in family(home)]
    finally:
        downs = [end(down) for down in [start("nmcl", "down", home=home) for home in folders.values()]]
    assert {down.stdout for down in downs} == {"Stopped.\n"}
    assert not any(process.is_running() for process in processes)
    again = run("nmcl", "down", home=folders["SQLite"])
    assert again.returncode == 0
    assert again.stdout.startswith("Nothing to stop")


@pytest.fixture(scope="module")
def home(homes: dict[str, Path]) -> Path:
    """Of the service with SQLite."""
    return homes["SQLite"]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of two venues, and a file that is none, in a folder that is watched."""
    folder = tmp_path_factory.mktemp("watched") / "tuesday"
    folder.mkdir()
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
    assert {deployment["name"] for deployment in ask(home, "deployments")} == {"local"}
    assert {flow["name"] for flow in ask(home, "flows")} == {"extract-features", "train-nmcl", "retrain", "sweep"}
    assert swept(home, is_active=False) == {"folder": "", "out": ""}
    assert runs_of(home, "sweep") == []  # nothing is watched any more


def test_a_scheduled_sweep_that_finds_nothing_leaves_no_trace(home: Path) -> None:
    log = home / "service" / "worker.log"
    (deployment,) = [found for found in ask(home, "deployments") if found["schedules"]]
    url = f"{running(home)['url']}/deployments/{deployment['id']}/schedules"
    soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
    # A busy scheduler may look only after the first moment; the next one comes two minutes later.
    (often,) = service_ask(url, [{"schedule": {"interval": 120, "anchor_date": soon}, "active": True}])
    try:
        wait_for(lambda: "Finished in state Completed" in log.read_text())
    finally:
        service_ask(f"{url}/{often['id']}", None, "DELETE")
    wait_for(lambda: {run["state_type"] for run in runs_of(home, "sweep")} <= {"SCHEDULED"}, 120)
    assert "Traceback" not in log.read_text()


def test_postgres(homes: dict[str, Path], postgres: str | None) -> None:
    if postgres is None:
        pytest.skip("initdb and pg_ctl of PostgreSQL are not on the PATH")
    home = homes["PostgreSQL"]
    assert len(ask(home, "deployments")) == 4
    assert swept(home, is_active=False) == {"folder": "", "out": ""}
    assert running(home)["database"] == postgres
    assert not (home / "service" / "prefect.db").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql://u:secret@127.0.0.1:{port}/none",
            "The database postgresql://u@127.0.0.1:{port}/none cannot be used",
        ),
        ("mysql://u@127.0.0.1/none", "expected postgresql://"),
    ],
)
def test_a_database_that_cannot_be_used(url: str, message: str, tmp_path: Path) -> None:
    port = free_port()
    refused = run("nmcl", "up", "--database-url", url.format(port=port), home=tmp_path)
    assert refused.returncode == 2
    assert message.format(port=port) in refused.stderr
    assert "secret" not in refused.stderr
    assert not (tmp_path / "service" / "running.json").exists()


def test_another_database_than_that_of_the_running_server(home: Path) -> None:
    before = running(home)
    refused = run("nmcl", "up", "--database-url", "postgresql://u@127.0.0.1/none", home=home)
    assert refused.returncode == 2
    assert "uses the database SQLite, not postgresql://u@127.0.0.1/none" in refused.stderr
    assert running(home) == before


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("crwal=videos", "not found on the deployment: 'crwal'"),
        ("crawl=7", "Validation failed for field 'crawl'"),
        ("crawl=no/such/crawl", "There is no folder no/such/crawl"),
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
    """A crawl lands while a command is at work on the store, and somebody extracts features into it: all wait in line.

    Later the folder is swept, twice at once.
    """
    store = Store.create(out := tmp_path / "out")
    remember(store, from_tree(load_tree(None, TINY)))
    with store.locked():
        announced = run("nmcl", "announce", crawl, "--out", out, home=home)
        assert announced.returncode == 0, announced.stderr
        assert "There is no store" not in announced.stderr
        into = ("--param", f"crawl={crawl}", "--param", f"out={out}")
        extraction = start("prefect", "deployment", "run", "extract-features", "--watch", *into, home=home)
        wait_for(lambda: any("an nmcl command is using it" in log["message"] for log in ask(home, "logs")))
    extracted = end(extraction)
    assert extracted.returncode == 0, extracted.stdout + extracted.stderr
    wait_for(lambda: [run["state_type"] for run in runs_of(home, "retrain")] not in (["RUNNING"], ["PENDING"]))
    (retrained,) = runs_of(home, "retrain")
    assert retrained["state_type"] == "COMPLETED", retrained["state"]
    assert retrained["parameters"]["crawl"] == str(crawl)
    assert (out / "latest" / "report.html").exists()
    waits = [log["message"] for log in ask(home, "logs") if log["message"].startswith(f"Waiting for {out}")]
    assert sorted(message.partition(": ")[2] for message in waits) == [
        "an nmcl command is using it.",
        "another run is using it.",
    ]

    own = f"-{out.name}-{digest(Store(str(out)).url)}"
    artifacts = {artifact["key"].removesuffix(own): artifact for artifact in ask(home, "artifacts")}
    assert artifacts["progress-extract"]["data"] == 100
    progress = {key: artifact["data"] for key, artifact in artifacts.items() if key.startswith("progress-")}
    assert set(progress.values()) == {100}
    assert "progress-stage-3-of-6-extract" in progress
    assert retrained["name"] == f"{crawl.name} into {out.name}"
    ids = [found["id"] for found in (retrained, *runs_of(home, "extract-features"))]
    logged = [log["message"] for log in ask(home, "logs", logs={"flow_run_id": {"any_": ids}})]
    assert any(re.match(r"13 videos of .*: extracted 12, unreadable 1", message) for message in logged)
    assert f"`nmcl errors --out {Store(str(out)).url}` lists the failures." in logged
    assert any(message.startswith("Report: ") for message in logged)
    assert any(message.startswith("stage 3 of 6: extract: 100 of 100") for message in logged)
    outcomes = {row["outcome"]: row["videos"] for row in json.loads(artifacts["outcomes"]["data"])}
    assert outcomes == {"extracted": 12, "unreadable": 1}
    assert f"`{(out / 'latest').resolve()}/report.html`" in artifacts["report"]["data"]
    assert "| test, textual alone | " in artifacts["report"]["data"]

    landed = crawl.parent / "wednesday"
    landed.mkdir()
    (landed / "clip.mp4").write_bytes(b"no video")
    parameters = ("--param", f"folder={crawl.parent}", "--param", f"out={out}", "--param", "settled_s=0")
    sweeps = [start("prefect", "deployment", "run", "sweep", "--watch", *parameters, home=home) for _ in range(2)]
    for swept in map(end, sweeps):  # one waits for the other
        assert swept.returncode == 0, swept.stdout + swept.stderr
    assert {run["parameters"]["crawl"] for run in runs_of(home, "retrain")} == {str(crawl), str(landed)}
    script = (
        "from nmcl.flows.engine.sweep import sweep\n"
        f"print(sweep({str(crawl.parent)!r}, {str(out)!r}, 0), sweep({str(crawl.parent)!r}, {str(out)!r}, 3600))"
    )
    again = run("env", f"PREFECT_API_URL={running(home)['url']}", sys.executable, "-c", script, home=home)
    before, crawl = ({"tuesday": word, "wednesday": word} for word in ("started before", "still changing"))
    assert again.stdout == f"{before} {crawl}\n", again.stderr
    assert len(runs_of(home, "retrain")) == 2


def test_a_crawl_without_videos_is_not_announced(home: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    refused = run("nmcl", "announce", tmp_path, home=home)
    assert refused.returncode == 2
    assert "No video found in" in refused.stderr


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, 20)


def test_a_killed_worker_is_started_again_beside_the_same_server(home: Path, crawl: Path, tmp_path: Path) -> None:
    store = Store.create(out := tmp_path / "out")
    remember(store, from_tree(load_tree(None, TINY)))
    into = ("--param", f"crawl={crawl}", "--param", f"out={out}")
    known = {found["id"] for found in runs_of(home, "extract-features")}

    def states() -> list[str]:
        return [str(run["state_type"]) for run in runs_of(home, "extract-features") if run["id"] not in known]

    before, logs = running(home), home / "service"
    with store.locked():  # so that it is at work until then
        assert run("prefect", "deployment", "run", "extract-features", *into, home=home).returncode == 0
        wait_for(lambda: states() == ["RUNNING"])
        worker = psutil.Process(before["worker"]["pid"])
        kill([worker, *worker.children(recursive=True)])
        log = (logs / "worker.log").read_bytes()
        up = run("nmcl", "up", home=home)
    assert up.returncode == 0, up.stderr
    assert "Starting the server" not in up.stderr
    assert "now Crashed: 1." in up.stderr
    assert states() == ["CRASHED"]
    after = running(home)
    assert after["worker"] != before["worker"]
    assert after | {"worker": before["worker"]} == before
    assert before["worker_name"].encode() in log
    assert (logs / "worker.log.1").read_bytes() == log
    assert run("prefect", "deployment", "run", "extract-features", "--watch", *into, home=home).returncode == 0


def test_a_run_starts_a_new_log_if_the_old_one_is_large(home: Path, crawl: Path, tmp_path: Path) -> None:
    log = home / "service" / "worker.log"
    os.truncate(log, LOG_BYTES + 1)
    into = ("--param", f"crawl={crawl}", "--param", f"out={tmp_path}/out", "--watch")
    settings = (
        "--param",
        'settings={"features": {"visual": {"extractor": "none"}, "acoustic": {"extractor": "none"}}}',
    )
    assert run("prefect", "deployment", "run", "extract-features", *into, *settings, home=home).returncode == 0
    assert log.with_name("worker.log.1").stat().st_size > LOG_BYTES
    assert 0 < log.stat().st_size < LOG_BYTES


def test_runs_of_a_killed_server_are_crashed_and_can_be_retried(home: Path, crawl: Path, tmp_path: Path) -> None:
    store = Store.create(out := tmp_path / "out")
    remember(store, from_tree(load_tree(None, TINY)))
    into = ("--param", f"crawl={crawl}", "--param", f"out={out}")
    before = {found["id"] for found in runs_of(home, "extract-features")}

    def state() -> str:
        (found,) = [run for run in runs_of(home, "extract-features") if run["id"] not in before]
        return str(found["state_type"])

    with store.locked():  # so that it is at work until then
        assert run("prefect", "deployment", "run", "extract-features", *into, home=home).returncode == 0
        wait_for(lambda: state() == "RUNNING")
        worker = psutil.Process(running(home)["worker"]["pid"])
        kill([psutil.Process(running(home)["server"]["pid"])])
        log = (home / "service" / "server.log").read_bytes()
        up = run("nmcl", "up", home=home)
    assert up.returncode == 0, up.stderr
    assert not worker.is_running()
    assert (home / "service" / "server.log.1").read_bytes() == log
    assert "now Crashed: 1." in up.stderr
    assert state() == "CRASHED"
    (crashed,) = [found["id"] for found in runs_of(home, "extract-features") if found["id"] not in before]
    retried = run("prefect", "flow-run", "retry", crashed, home=home)
    assert retried.returncode == 0, retried.stderr
    wait_for(lambda: state() == "RUNNING")


def test_what_fails_to_write_is_tried_again(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "flaky.py"
    script.write_text(
        "from prefect import flow\n"
        "from nmcl.flows.engine.tasks import as_tasks\n"
        "from nmcl.pipeline.errors import StoreError\n"
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


def test_a_worker_uses_an_installed_extractor(crawl: Path, tmp_path: Path) -> None:
    """A package with an entry point, installed with pip where the worker finds it; a project's class is refused."""
    packages, home, out = tmp_path / "packages", tmp_path / "home", tmp_path / "store"
    own.install(packages, [own.TOY])
    there = {"PYTHONPATH": str(packages)}
    settings = {"features": {"bands": {"extractor": "bands"}, **{name: {"extractor": "none"} for name in DEFAULTS}}}
    parameters = ("--param", f"crawl={crawl}", "--param", f"out={out}", "--watch")
    extract = ("prefect", "deployment", "run", "extract-features", *parameters, "--param")
    up = end(start("nmcl", "up", home=home, PREFECT_SERVER_API_PORT=str(free_port()), **there))
    try:
        assert up.returncode == 0, up.stderr
        done = end(start(*extract, f"settings={json.dumps(settings)}", home=home, **there))
        assert done.returncode == 0, done.stdout + done.stderr
        (folder,) = (out / "features").iterdir()
        table = pq.read_table(folder)
        assert [len(v) for v in table["vector"].to_pylist() if v is not None] == [12] * 12
        assert (sorted(table["video_id"].to_pylist()), table["vector"].null_count) == (
            sorted([*map(str, range(12)), "broken"]), 1
        )  # fmt: skip
        recipe = json.loads((out / "metadata" / "features" / folder.name / "recipe.json").read_text())
        assert recipe["settings_in_full"]["features"]["bands"]["source"] == "toy-bands 1.2"
    finally:
        end(start("nmcl", "down", home=home, **there))
