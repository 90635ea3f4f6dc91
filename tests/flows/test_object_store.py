"""Stores and crawls on an S3 server: the main job, kills included, byte for byte as on a disk."""

import csv
import hashlib
import json
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pytest
from torch.utils.data import DataLoader

import nmcl
from nmcl.flows.service.server import free_port
from nmcl.flows.settings import Settings, to_tree
from nmcl.pipeline.crawl.source import VideoRequest, contents_of, crawl_source
from nmcl.pipeline.errors import ClipError, CrawlError, StoreError
from nmcl.pipeline.media import AHEAD, Decoder, MediaSettings
from nmcl.pipeline.needs import Sound
from nmcl.pipeline.records import Content, Video
from nmcl.pipeline.storage.store import Store, file_system
from tests.flows.conftest import made
from tests.media import shades, tone, write_video

pytestmark = pytest.mark.services
BIN = Path(sys.executable).parent
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
moto = pytest.importorskip("moto.server", reason="moto, an S3 server, is not installed")
serving = pytest.importorskip("werkzeug.serving")


@pytest.fixture(scope="module")
def s3(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of commands that use an empty S3 server with the buckets `crawls` and `stores`."""
    port = free_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        try:
            make_buckets("crawls", "stores")
            yield environment | found
        finally:
            server.terminate()
            server.wait()


def make_buckets(*names: str) -> None:
    end = time.monotonic() + 120
    for name in names:
        while True:
            try:
                file_system(f"s3://{name}")[0].mkdir(name)
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.2)


@pytest.fixture
def store(s3: dict[str, str], request: pytest.FixtureRequest) -> Store:
    return Store.create(f"s3://stores/{request.node.name}")


def test_the_whole_job_killed_and_run_again(
    s3: dict[str, str], small_crawl: Path, quick: Settings, expected: dict[str, bytes], tmp_path: Path
) -> None:
    fs, _ = file_system("s3://crawls")
    fs.put(str(small_crawl), "crawls/clips", recursive=True)
    sets = [f"--set={name}={value}" for name, value in flat(to_tree(quick))]
    command = [str(BIN / "nmcl"), "run", "s3://crawls/clips", "--out", "s3://stores/out", *sets]
    killed = subprocess.Popen(command, env=s3, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not fs.glob("stores/out/features/visual-*/part-*"):
        assert killed.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(fs.glob("stores/out/features/visual-*/part-*")) < 7

    done = subprocess.run(command, env=s3, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = Store.open("s3://stores/out")
    assert made(store) == expected
    run = store.target("latest")
    assert f"Report: s3://stores/out/{run}/report.html" in done.stdout
    assert store.list("") == sorted(
        ["catalogue.json", "champion.json", "champions.json", "completed", "failures", "features", "latest.json",
         "metadata", "runs", "settings.json", "states", "store.json", "thumbnails", "timings",
         "videos"]
    )  # fmt: skip

    (folder,) = fs.glob("stores/out/features/visual-*")
    assert len(ds.dataset(folder, filesystem=fs).to_table()) == len(pd.read_parquet(f"s3://{folder}")) == 14

    before = {path: info["ETag"] for path, info in fs.find("stores/out", detail=True).items()}
    table = tmp_path / "venues.csv"
    words = ["predict", "s3://crawls/clips", "--model", f"s3://stores/out/{run}", "--out", str(table)]
    predicted = subprocess.run([str(BIN / "nmcl"), *words], env=s3, capture_output=True, text=True, check=False)
    assert predicted.returncode == 0, predicted.stderr
    with table.open() as file:
        status = [row["status"] for row in csv.DictReader(file)]
    assert status.count("ok") == 13
    after = {path: info["ETag"] for path, info in fs.find("stores/out", detail=True).items()}
    assert {path: after.get(path) for path in before} == before


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None and value != "":
            yield prefix + name, json.dumps(value)


def test_files_are_whole_or_missing(store: Store) -> None:
    store.write("a/part-1", b"x" * 100)
    store.write("a/part-1", b"y")
    store.write_json("a/part-2", {"é": 1})
    assert store.read("a/part-1") == b"y"
    assert store.read_json("a/part-2") == {"é": 1}
    assert store.list("a") == ["part-1", "part-2"]
    assert store.list("nothing") == []
    assert store.has_all(["a/part-1", "a/part-2"])
    assert not store.has_all(["a/part-1", "b/part-1"])
    with pytest.raises(StoreError, match=r"s3://stores/.*/b is missing"):
        store.read("b")


def test_latest_leads_to_a_run(store: Store) -> None:
    for run in ("runs/a", "runs/b"):
        store.write(f"{run}/x", run.encode())
        store.point("latest", run)
        assert store.leads("latest", run)
        assert store.read("latest/x") == run.encode()
    assert store.where("latest/x") == f"{store.url}/runs/b/x"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://no-such-bucket/out", "Does the bucket"),
        ("nonsense://bucket/out", "Use a folder, or a URL"),
    ],
)
def test_what_cannot_be_opened_is_said(s3: dict[str, str], url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        Store.create(url)


def test_one_writer_at_a_time(store: Store, s3: dict[str, str]) -> None:
    script = (
        "import sys\n"
        "from nmcl.pipeline.errors import StoreError\n"
        "from nmcl.pipeline.storage.store import Store\n"
        "try:\n"
        "    with Store.open(sys.argv[1]).locked(): print('free')\n"
        "except StoreError as error: print(error)\n"
    )

    def try_it() -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, store.url], env=s3, capture_output=True, text=True, check=False
        )
        return done.stdout

    with store.locked(), store.locked():
        assert "Another nmcl command" in try_it()
    assert try_it() == "free\n"


WAITING = """
import sys
from prefect import flow
from nmcl.flows.engine import tasks
from nmcl.pipeline.errors import StoreError
tasks.COMMAND_ENDS_WITHIN_S = float(sys.argv[2])
@flow
def work():
    with tasks.alone_on(sys.argv[1]) as store:
        store.write("done", b"")
try:
    work()
except StoreError as error:
    print(type(error).__name__, error, sep=": ")
"""


@contextmanager
def waiting(url: str, environment: dict[str, str], at_most_s: float) -> Iterator[subprocess.Popen[str]]:
    """A flow run that waits for a store, which another has."""
    loud = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", WAITING, url, str(at_most_s)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment | loud, text=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "an nmcl command is using it" in line:
                    break
            else:
                raise AssertionError("".join(said))
            yield process
        finally:
            process.kill()


def test_a_flow_run_waits_for_the_end_of_a_command(store: Store, s3: dict[str, str]) -> None:
    with ExitStack() as stack:
        with store.locked():
            process = stack.enter_context(waiting(store.url, s3, 600))
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(6)  # more than it takes to look again
            assert not store.exists("done")
        stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (0, ""), stderr
    assert store.exists("done")


def test_the_end_of_a_wait_is_said_in_a_sentence(store: Store, s3: dict[str, str]) -> None:
    with store.locked(), waiting(store.url, s3, 3) as process:
        stdout, _ = process.communicate(timeout=120)
    assert re.fullmatch(
        r"StoreTakenError: Another nmcl command \(\S+, process \d+\) is writing to s3://stores/\w+\. "
        r"Wait until it finishes, or use another --out\.\n",
        stdout,
    )
    assert not store.exists("done")


@pytest.fixture
def outage(s3: dict[str, str]) -> Iterator[tuple[dict[str, str], threading.Event]]:
    """The environment of commands that use another S3 server, with a bucket `stores`; it answers 503 while set."""
    down, answer = threading.Event(), moto.DomainDispatcherApplication(moto.create_backend_app)

    def answer_if_up(request: dict[str, Any], start: Callable[..., Any]) -> Any:
        if down.is_set():
            start("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        return answer(request, start)

    server = serving.make_server("127.0.0.1", free_port(), answer_if_up, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "AWS_MAX_ATTEMPTS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            make_buckets("stores")
            yield s3 | found, down
        finally:
            s3fs.S3FileSystem.clear_instance_cache()
            server.shutdown()
            thread.join()


def test_an_outage_ends_no_wait(outage: tuple[dict[str, str], threading.Event]) -> None:
    """The flow run goes on waiting, and the command that holds the store keeps it."""
    environment, down = outage
    store = Store.create("s3://stores/outage")
    with ExitStack() as stack:
        with store.locked():
            process = stack.enter_context(waiting(store.url, environment, 600))
            down.set()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(8)
            down.clear()
            store.write("written", b"")
        stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (0, ""), stderr
    assert store.exists("done")


def test_a_writer_whose_lease_was_taken_over_writes_no_more(store: Store) -> None:
    with store.locked():
        store.fs.pipe_file(f"{store.root}/.lock", b'{"token": "theirs", "renewals": 1, "holder": "them"}')
        end = time.monotonic() + 60
        with pytest.raises(StoreError, match="took it over"):  # noqa: PT012
            while time.monotonic() < end:
                store.write("x", b"1")
                time.sleep(0.1)
    assert b"theirs" in store.fs.cat_file(f"{store.root}/.lock")


def test_videos_are_fetched_one_by_one_and_removed(
    s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, _ = file_system("s3://crawls")
    write_video(tmp_path / "good.mp4", shades([20, 120], 4), sound=tone(300, 0.5))
    fs.pipe_file("crawls/odd/long.mp4", b"x" * (2**20 + 1))
    fs.put_file(str(tmp_path / "good.mp4"), "crawls/odd/good.mp4")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    source = crawl_source("s3://crawls/odd/")
    good = (tmp_path / "good.mp4").read_bytes()
    sha256, n_bytes = hashlib.sha256(good).hexdigest(), len(good)
    names = ("good.mp4", "long.mp4", "absent.mp4", *["good.mp4"] * 50)
    videos = [Video(name, "odd", name, sha256, n_bytes, None, None, None, None) for name in names]
    requests = [VideoRequest(source, video, (Sound(),)) for video in videos]
    most = 0
    found = []
    with Decoder(replace(MediaSettings(), workers=1, max_fetch_mb=1)) as decoder:
        for content in contents_of(requests, decoder):
            found.append(content.kind if isinstance(content, ClipError) else type(content))
            most = max(most, len(list(scratch.rglob("*.mp4"))))
    assert found == [Content, "too_large", "missing", *[Content] * 50]
    assert most <= AHEAD + 8  # those that wait, are fetched or decoded
    assert not any(scratch.iterdir())


def test_keys_that_are_no_paths_are_left_out(s3: dict[str, str]) -> None:
    fs, _ = file_system("s3://crawls")
    for key in ("a.mp4", "b/c.mp4", "../d.mp4", ".hidden/e.mp4", "f.mp4.part", "g.info.json"):
        fs.pipe_file(f"crawls/keys/{key}", b"{}")
    source = crawl_source("s3://crawls/keys")
    with source.files() as files:
        assert files.videos == ("a.mp4", "b/c.mp4")
        assert (files.root / "g.info.json").read_text() == "{}"
        assert [note.split(":")[0] for note in files.notes()] == [
            "Skipped keys that are not paths (1)",
            "Skipped partial downloads (1)",
        ]
    with pytest.raises(CrawlError, match="nothing under s3://crawls/none"), crawl_source("s3://crawls/none").files():
        pass


@pytest.mark.own_process
def test_it_is_read_in_python(s3: dict[str, str], small_crawl: Path, tmp_path: Path) -> None:
    """Also by the processes of a loader, which cannot use the connections of their parent."""
    with tarfile.open(Path(__file__).parents[1] / "data" / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    local = nmcl.open(tmp_path / "out")
    for link in ("latest", "champion"):
        (tmp_path / "out" / link).unlink()
    file_system("s3://stores")[0].put(str(tmp_path / "out"), "stores/read", recursive=True)
    remote = nmcl.open("s3://stores/read")
    features = remote.features(missing="completed")
    assert features.to_arrow().equals(local.features(missing="completed").to_arrow())
    for n_workers in (0, 2):
        loader = DataLoader(features.to_torch(), batch_size=10, num_workers=n_workers)
        assert [video_id for batch in loader for video_id in batch["id"]] == features.ids.tolist()
    assert [run.scores for run in remote.runs] == [run.scores for run in local.runs]
    champions = [store.champion for store in (remote, local)]
    path = small_crawl / "1.mp4"
    predicted = [champion.predict(path, ["snow"]).to_pydict() for champion in champions if champion]
    assert predicted[0] == predicted[1]
    assert predicted[0]["status"] == ["ok"]
