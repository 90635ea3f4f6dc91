"""The engines: the same bytes by all, and parts outlive the processes that work on them. Real clusters, real kills."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from nmcl.flows.service.server import free_port, start, wait_until_ready
from nmcl.pipeline.storage.store import Store
from tests.flows.conftest import made

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.services
BIN = Path(sys.executable).parent


@contextmanager
def no_cluster(environment: dict[str, str]) -> Iterator[tuple[list[str], list[psutil.Process]]]:
    """The command starts its workers itself."""
    yield [], []


@contextmanager
def no_server(environment: dict[str, str]) -> Iterator[tuple[list[str], list[psutil.Process]]]:
    """The command starts its workers itself, and uses no Prefect server."""
    environment["PREFECT_HOME"] = "/dev/null/no-server-may-start"
    del environment["PREFECT_API_URL"]
    yield [], []


@contextmanager
def ray_cluster(environment: dict[str, str]) -> Iterator[tuple[list[str], list[psutil.Process]]]:
    """Ray with two workers, started before, where no token for it is at hand."""
    pytest.importorskip("prefect_ray", reason="prefect-ray is not installed")
    environment["HOME"] = environment["PREFECT_HOME"]
    port = free_port()
    command = [BIN / "ray", "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    with running(command, environment) as head:
        wait_for(lambda: b"Ray runtime started" in (Path(environment["PREFECT_HOME"]) / "log").read_bytes())
        yield ["--address", f"127.0.0.1:{port}"], [head]


@contextmanager
def ray_cluster_with_token(environment: dict[str, str]) -> Iterator[tuple[list[str], list[psutil.Process]]]:
    """Ray that asks for a token, as one does which finds it on its first start."""
    environment["RAY_AUTH_TOKEN"] = "f" * 64
    with ray_cluster(environment) as cluster:
        yield cluster


@contextmanager
def dask_cluster(environment: dict[str, str]) -> Iterator[tuple[list[str], list[psutil.Process]]]:
    """A Dask scheduler and two workers, started before."""
    pytest.importorskip("prefect_dask", reason="prefect-dask is not installed")
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = [BIN / "dask", "scheduler", "--no-dashboard", "--host", address]
    worker = [BIN / "dask", "worker", "--no-dashboard", "--nthreads", "1", "--memory-limit", "0", address]
    with ExitStack() as stack:
        stack.enter_context(running(scheduler, environment))
        yield ["--address", address], [stack.enter_context(running(worker, environment)) for _ in range(2)]


@contextmanager
def running(command: list[str | Path], environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A process; at the end nothing of it is left."""
    with (Path(environment["PREFECT_HOME"]) / "log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in command], env=environment, stdout=log, stderr=log)
    watched = psutil.Process(process.pid)
    try:
        yield watched
    finally:
        family = [watched, *watched.children(recursive=True)] if watched.is_running() else []
        for member in family:
            member.terminate()
        _, left = psutil.wait_procs(family, 10)
        for member in left:
            member.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], limit_s: float = 240) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def workers_among(roots: list[psutil.Process]) -> list[psutil.Process]:
    """Processes that have started decoders, which a worker does on its first part."""
    found = []
    for member in (child for root in roots for child in root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            if any("spawn_main" in " ".join(child.cmdline()) for child in member.children()):
                found.append(member)
    return found


@pytest.mark.parametrize(
    ("engine", "cluster"),
    [
        ("processes", no_server),
        ("threads", no_server),
        ("processes", no_cluster),
        ("threads", no_cluster),
        ("ray", ray_cluster_with_token),  # one without a token is below
        ("dask", dask_cluster),
    ],
)
def test_the_same_bytes_though_a_worker_is_killed(
    engine: str,
    cluster: Callable[..., AbstractContextManager[tuple[list[str], list[psutil.Process]]]],
    environment: dict[str, str],
    fitted: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
) -> None:
    out, environment = tmp_path / "out", dict(environment)
    shutil.copytree(fitted, out)
    with cluster(environment) as (address, roots):
        words = ["complete", "--out", str(out), "--engine", engine, "--workers", "2", *address]
        command = subprocess.Popen(
            [str(BIN / "nmcl"), *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        roots = roots or [psutil.Process(command.pid)]
        wait_for(lambda: any(out.glob("features/*/part-*")) or command.poll() is not None)
        assert command.poll() is None, command.communicate()
        if engine != "threads":  # they are the command's own process
            workers_among(roots)[0].kill()
        printed, output = command.communicate()
    assert command.returncode == 0, output
    assert made(Store.open(out)) == expected
    assert printed.lstrip().startswith("Vectors")  # nothing of the engine's own
    known = {"extract", "completion", "complete", "stage 3 of 6", "stage 4 of 6"}
    assert {line.split(":")[0] for line in output.splitlines()} == known, output
    assert json.loads((out / "settings.json").read_text())["engine"]["name"] == engine


@pytest.mark.parametrize(
    ("engine", "by"), [("processes", "local"), ("processes", "prefect"), ("ray", "prefect"), ("dask", "prefect")]
)
def test_a_part_that_always_kills_its_worker_is_named_and_the_others_are_done(
    engine: str, by: str, environment: dict[str, str]
) -> None:
    if engine != "processes":
        pytest.importorskip(f"prefect_{engine}", reason=f"prefect-{engine} is not installed")
    command = [sys.executable, "-m", "tests.flows.deadly", engine, by]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    others, error = done.stdout.strip().split("\n")
    assert others == str([f"done-{i}" for i in range(6) if i != 3])
    assert error.startswith(
        "work: 1 parts killed their worker process 3 times and were abandoned: 3 (2 videos of crawl)"
    )
    assert done.stderr == ""


IDLE = """
import time
from prefect import flow
from nmcl.flows.engine.runners import map_by
from nmcl.flows.run import workers
from nmcl.flows.run.parts import WorkItem
from nmcl.flows.engine_settings import EngineSettings
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.errors import WorkerError

workers.CHECKED_EVERY_S = 1.0

def work(item, progress):
    time.sleep(int(item.part.key))

@flow
def waiting():
    settings = EngineSettings(name={name!r}, address={address!r})
    report = lambda stage, done, total, note="": print(done, total, note, flush=True)
    try:
        items = [WorkItem("crawl", "crawl", Part(key, "", 2)) for key in ("0", "600")]
        with map_by(settings) as map_items:
            map_items("work", work, items, report)
    except WorkerError as error:
        print(error)

waiting()
"""


@pytest.mark.parametrize(
    ("name", "head", "worker", "lack"),
    [
        (
            "dask",
            "dask scheduler --no-dashboard --host 127.0.0.1 --port {port}",
            "dask worker --no-dashboard --nthreads 1 tcp://127.0.0.1:{port}",
            "waiting for a worker of the scheduler",
        ),
        (
            "ray",
            "ray start --head --block --port={port} --num-cpus=0 --include-dashboard=false",
            "ray start --block --address=127.0.0.1:{port} --num-cpus=1",
            "waiting for a node with 1 CPU",
        ),
    ],
    ids=["dask", "ray"],
)
def test_a_cluster_without_workers_is_waited_for_aloud_and_one_that_is_gone_is_an_error(
    name: str, head: str, worker: str, lack: str, environment: dict[str, str]
) -> None:
    pytest.importorskip(f"prefect_{name}", reason=f"prefect-{name} is not installed")
    environment = environment | {"HOME": environment["PREFECT_HOME"]}  # where no token of Ray is
    port = free_port()
    address = f"{'tcp://' if name == 'dask' else ''}127.0.0.1:{port}"
    script = IDLE.format(name=name, address=address)
    with ExitStack() as stack:

        def begin(command: str) -> None:
            program, *words = command.format(port=port).split()
            stack.enter_context(running([BIN / program, *words], environment))

        begin(head)
        log = Path(environment["PREFECT_HOME"]) / "log"
        wait_for(lambda: any(word in log.read_bytes() for word in (b"Ray runtime started", b"Scheduler at")))
        waiting = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert waiting.stdout.readline().strip() == f"0 4 {lack}"
        begin(worker)
        wait_for(lambda: waiting.stdout.readline().strip() == "2 4")
    output = waiting.communicate(timeout=120)[0]
    assert f"The {name} cluster at {address} no longer responds" in output


WARM = """
import os
from prefect import flow
from nmcl.flows.engine.runners import map_by
from nmcl.flows.run import workers
from nmcl.flows.run.parts import WorkItem
from nmcl.flows.engine_settings import EngineSettings
from nmcl.pipeline.storage.catalogue import Part

def work(item, progress):
    with open({log!r}, "a") as log:
        print(os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], file=log)

@flow
def warm():
    settings = EngineSettings(name="ray", workers=1, address={address!r}, gpus=1)
    with map_by(settings) as map_items:
        map_items("work", work, [WorkItem("crawl", "crawl", Part(str(i), "", 2)) for i in range(3)], print)

warm()
"""


def test_a_ray_worker_with_a_gpu_does_all_parts_in_one_process(environment: dict[str, str], tmp_path: Path) -> None:
    """Ray ends a process that had a GPU after each task unless configured otherwise: its network would be loaded again.

    The GPU is one in Ray's books alone, so this is seen without one.
    """
    pytest.importorskip("prefect_ray", reason="prefect-ray is not installed")
    environment, log = environment | {"HOME": environment["PREFECT_HOME"]}, tmp_path / "log"
    port = free_port()
    head = f"{BIN}/ray start --head --block --port={port} --num-cpus=2 --num-gpus=1 --include-dashboard=false"
    with running([*head.split()], environment):
        wait_for(lambda: b"Ray runtime started" in (Path(environment["PREFECT_HOME"]) / "log").read_bytes())
        script = WARM.format(log=str(log), address=f"127.0.0.1:{port}")
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    processes = log.read_text().splitlines()
    assert len(processes) == 3
    assert len(set(processes)) == 1
    assert processes[0].endswith(" 0")  # the GPU that it was given


@pytest.mark.parametrize("has_server", [False, True])
def test_ctrl_c_leaves_parts_unfinished_and_nothing_running(
    has_server: bool, environment: dict[str, str], fitted: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(fitted, out)
    if not has_server:
        environment = {name: value for name, value in environment.items() if name != "PREFECT_API_URL"}
    words = [str(BIN / "nmcl"), "complete", "--out", str(out), "--workers", "2"]
    command = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(out.glob("features/*/part-*")) or command.poll() is not None)
    family = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGINT)
    _, output = command.communicate(timeout=120)
    assert command.returncode == 130, output
    assert output.strip().endswith("Interrupted. Finished work is kept; run the same command to resume.")
    assert psutil.wait_procs(family, 10)[1] == []
    assert made(Store.open(out)).items() < expected.items()


def test_a_server_that_is_gone_is_said(environment: dict[str, str], fitted: Path, tmp_path: Path) -> None:
    out, home, port = tmp_path / "out", tmp_path / "home", free_port()
    shutil.copytree(fitted, out)
    home.mkdir()
    url = f"http://127.0.0.1:{port}/api"
    changes = {"PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_CLIENT_MAX_RETRIES": "0"}
    server = start(home, port, "--no-ui", env=environment | changes)
    try:
        wait_until_ready(server, url, home)
        words = [str(BIN / "nmcl"), "extract", "--out", str(out), "--engine", "threads", "--workers", "2"]
        command = subprocess.Popen(words, env=environment | changes, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: any(out.glob("features/*/part-*")) or command.poll() is not None)
    finally:
        server.kill()
        server.wait()
    _, output = command.communicate(timeout=240)
    assert command.returncode == 2, output
    assert f"The Prefect server at {url} no longer responds" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "spark"], "engine.name is 'spark'"),
        (["--engine", "threads", "--address", "tcp://127.0.0.1:1"], "only ray and dask use clusters"),
        (
            ["--engine", "dask", "--address", "tcp://127.0.0.1:1"],
            "Cannot connect to the dask cluster at tcp://127.0.0.1:1",
        ),
        (["--engine", "ray", "--address", "127.0.0.1:x"], "Cannot connect to the ray cluster at 127.0.0.1:x"),
    ],
)
def test_what_cannot_be_is_said(
    options: list[str], message: str, environment: dict[str, str], fitted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(fitted, out)
    command = [str(BIN / "nmcl"), "extract", "--out", str(out), "--workers", "2", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(environment: dict[str, str]) -> None:
    script = (
        "import sys\n"
        "sys.modules['prefect_ray'] = None\n"
        "from nmcl.flows.engine.clusters import ray\n"
        "from nmcl.flows.engine_settings import EngineSettings\n"
        "from nmcl.pipeline.errors import WorkerError\n"
        "try:\n"
        "    with ray(EngineSettings(name='ray')): pass\n"
        "except WorkerError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "prefect_ray" in done.stdout
    assert done.stdout.strip().endswith("pip install -c constraints.txt 'nmcl[ray]'"), done.stderr
