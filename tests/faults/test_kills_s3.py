"""The kills of `test_kills.py` with the store on an S3 server: a request may be under way when its client dies."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nmcl.flows.service.server import free_port
from nmcl.pipeline.storage.store import POINTERS, Store, file_system
from tests.faults.processes import Kind, Watched
from tests.faults.stores import differences
from tests.faults.test_kills import FIRST_LINE
from tests.faults.world import STAGES, World, files_of

pytestmark = pytest.mark.long
pytest.importorskip("s3fs", reason="s3fs is not installed")
pytest.importorskip("moto.server", reason="moto, an S3 server, is not installed")


@dataclass(frozen=True)
class Bucket:
    """Stores on the server."""

    fs: Any

    def put(self, store: Path, url: str) -> None:
        """Upload a store of a disk. Links become the objects that stand for them."""
        found = Store(url)
        for path in files_of(store):
            name = str(path.relative_to(store))
            if path.is_symlink():
                found.point(name, os.readlink(path))
            elif name != ".lock":
                found.write(name, path.read_bytes())

    def get(self, url: str, folder: Path) -> None:
        """Download one into `out`, as it would be on a disk."""
        root = url.removeprefix("s3://")
        for key in self.fs.find(root):
            name, data = key.removeprefix(f"{root}/"), self.fs.cat_file(key)
            path = folder / "out" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.removesuffix(".json") in POINTERS and name.endswith(".json"):
                target = Store(url).target(name.removesuffix(".json"))
                assert target
                path.with_suffix("").symlink_to(target)
            else:
                path.write_bytes(
                    data.replace(url.encode(), f"{folder}/out".encode()) if name.endswith("html") else data
                )

    def n_objects(self, url: str) -> int:
        """Of a store, as of now."""
        return len(self.fs.find(url.removeprefix("s3://")))


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    """Of an S3 server, which the environment names."""
    port = free_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        try:
            fs, _ = file_system("s3://stores")
            for _ in range(600):
                try:
                    fs.mkdir("stores")
                    break
                except OSError:
                    time.sleep(0.2)
            yield Bucket(fs)
        finally:
            server.terminate()
            server.wait()


KILLS: list[tuple[Kind, str, float]] = [("main", stage, after) for stage in STAGES for after in (0.0, 0.5)]
KILLS += [("decoder", "extract", 0.3), ("decoder", "fit", 0.0), ("server", "retrain", 0.1)]
ATTEMPTS = 3
"""A decoder reads a clip in milliseconds: the moment may pass unseen."""


@pytest.mark.parametrize(("kind", "stage", "after"), KILLS)
def test_the_same_bytes_after_a_kill(
    kind: Kind,
    stage: str,
    after: float,
    bucket: Bucket,
    world: World,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    for attempt in range(ATTEMPTS):
        url = f"s3://stores/{kind}-{stage}-{after}-{attempt}"
        bucket.put(world.folder / "before" / stage / "out", url)
        folder = tmp_path / f"job{attempt}"
        folder.mkdir()
        words = [url if word == f"{folder}/out" else word for word in world.command(stage).at(folder)]
        watched = Watched(words, folder, world.folder)
        if watched.kill_when(kind, _ready(watched, bucket, url, stage, after, world)):
            break
        assert watched.end() == 0, watched.said
    else:
        pytest.fail(f"ended {ATTEMPTS} times before the moment came: {watched.said}")
    watched.end()
    record_property("fault", f"SIGKILL on S3: {kind} in {stage}")
    assert "Traceback" not in watched.said
    again = Watched(words, folder, world.folder)
    assert again.end() == 0, again.said
    assert "Traceback" not in again.said
    bucket.get(url, folder)
    expected = shutil.copytree(world.after(stage), tmp_path / "expected", symlinks=True)
    (expected / "out" / ".lock").unlink(missing_ok=True)
    assert differences(folder, expected) == []


def _ready(watched: Watched, bucket: Bucket, url: str, stage: str, after: float, world: World) -> Callable[[], bool]:
    """Whether the moment has come: a share of the stage's objects is written, or its first line is printed."""
    if not after:
        return lambda: watched.has_said(FIRST_LINE[stage])
    before = bucket.n_objects(url)
    wanted = before + after * (len([*files_of(world.after(stage) / "out")]) - before)
    return lambda: bucket.n_objects(url) >= wanted
