"""How often the commands and the flows read a crawl: once, whatever the store knows of it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nmcl.flows.settings import Settings, to_tree

pytestmark = pytest.mark.services
COUNTING = """
import sys
from nmcl.flows.run import stages
ingest = stages.ingest_crawl
def counted(store, crawl, *others):
    print("ingested", file=sys.stderr)
    return ingest(store, crawl, *others)
stages.ingest_crawl = counted
"""
COMMAND = f"{COUNTING}\nfrom nmcl.flows.cli.main import main\nmain()"
FLOW = f"""{COUNTING}
import json
from nmcl.flows.engine import flows
getattr(flows, sys.argv[1])(**json.loads(sys.argv[2]))"""


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None and value != "":
            yield f"--set={prefix}{name}={json.dumps(value)}"


@pytest.fixture(scope="module")
def crawl(small_crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crawl to which videos can be added."""
    return Path(shutil.copytree(small_crawl, tmp_path_factory.mktemp("growing") / "clips"))


def ingests(script: str, *words: object, **environment: str) -> int:
    """How often crawls are ingested by a command or a flow."""
    command = [sys.executable, "-c", script, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.count("ingested\n")


def add_video(crawl: Path, name: str) -> None:
    """Another video, by its bytes alone."""
    (crawl / name).write_bytes((crawl / "1.mp4").read_bytes() + name.encode())
    with (crawl / "manifest.csv").open("a") as manifest:
        manifest.write(f"\n{name},snow and ice,Slope")


def test_a_crawl_is_ingested_once(crawl: Path, quick: Settings, environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = ("run", crawl, "--out", out, *flat(to_tree(quick)))
    assert ingests(COMMAND, *run, **environment) == 1
    serverless = environment | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}  # nobody listens there
    assert ingests(COMMAND, *run, **serverless) == 1
    add_video(crawl, "new.mp4")
    assert ingests(COMMAND, *run, **environment) == 1
    assert ingests(COMMAND, "extract", "--out", out, **environment) == 0

    retrain = ("retrain", crawl, "--out", out, "--allow-drift")
    add_video(crawl, "newer.mp4")
    assert ingests(COMMAND, *retrain, **environment) == 1
    assert ingests(COMMAND, *retrain, **serverless) == 1
    later = shutil.copytree(crawl, tmp_path / "later")
    add_video(later, "newest.mp4")
    assert ingests(COMMAND, "retrain", later, "--out", out, "--allow-drift", **environment) == 1

    named = {"crawl": str(crawl), "out": str(out)}
    assert ingests(FLOW, "extract_features", json.dumps(named), **environment) == 1
    assert ingests(FLOW, "retrain", json.dumps(named), **environment) == 1


def test_the_first_run_of_a_retraining_ingests_once(
    crawl: Path, quick: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("command", "flow"):
        out = tmp_path / name
        words = (FLOW, "retrain", json.dumps({"crawl": str(crawl), "out": str(out), "settings": to_tree(quick)}))
        if name == "command":
            words = (COMMAND, "retrain", crawl, "--out", out, *flat(to_tree(quick)))
        assert ingests(*words, **environment) == 1
        assert (out / "champion" / "metrics.json").exists()
