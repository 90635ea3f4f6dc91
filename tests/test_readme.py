"""The README tells the truth: its commands, settings and files exist."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer.main

from nmcl.flows.cli.main import app
from nmcl.flows.run.sources import STORE
from nmcl.flows.settings import from_tree, load_tree
from nmcl.model.registry import MODELS
from nmcl.pipeline.completion import COMPLETERS
from nmcl.pipeline.records import Clip, State
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_vectors
from tests.readme import README, blocks, example_extractor

ROOT = Path(__file__).resolve().parent.parent


def test_settings_are_accepted() -> None:
    (text,) = blocks("toml")
    from_tree(tomllib.loads(text))
    for assignment in re.findall(r"--set ([a-z_.]+=[a-z0-9_]+)", README):
        from_tree(load_tree(None, [assignment]))


def test_commands_exist() -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    stages = "run|ingest|fit|extract|complete|train|evaluate|predict|sample"
    others = "retrain|promote|rollback|runs"
    assert set(re.findall(rf"\bnmcl ({stages}|{others})\b", README)) <= known
    for name in known:
        assert re.search(rf"\b{name}\b", README), f"`nmcl {name}` is not in the README"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)", "".join(blocks("sh")))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_run_without_out_goes_where_a_deployment_without_out_does() -> None:
    command = ["make", "--dry-run", "run", "CRAWL=crawls/monday/"]
    environment = {name: value for name, value in os.environ.items() if name != "OUT"}
    planned = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f'"crawls/monday/" --out "{STORE}"' in planned.stdout
    assert f"/{STORE}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_files_exist() -> None:
    for path in set(re.findall(r"`((?:pipeline|extractors|model|flows)/[\w/]+\.py)`", README)):
        assert (ROOT / path).exists(), path
    assert (ROOT / "pipeline.svg").exists()


def test_registries_are_documented() -> None:
    for name in [*MODELS, *COMPLETERS]:
        assert re.search(rf"\b{name}\b", README), name


def test_the_example_extractor_works() -> None:
    extractor = example_extractor()
    clips = [Clip(frames=np.full((2, 4, 4, 3), 9, np.uint8)), Clip()]
    np.testing.assert_array_equal(extractor.extract(clips, State()), np.array([[9], [np.nan]], np.float32))


def test_vectors_are_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(block for block in blocks("python") if "pq.read_table" in block)
    store = Store.create(tmp_path / "out")
    store.write_json("features/visual-7c92c5c6f8bb/recipe.json", {})
    for key, vectors in (("a", [[1.0, 2.0]]), ("b", [[np.nan, np.nan], [3.0, 4.0]])):
        columns = {"vector": from_vectors(np.array(vectors, np.float32))}
        store.write(f"features/visual-7c92c5c6f8bb/part-{key}.parquet", encode(pa.table(columns)))
    monkeypatch.chdir(tmp_path)
    space: dict[str, pa.Table] = {}
    exec(code, space)
    assert space["table"].column("vector").to_pylist() == [[1.0, 2.0], None, [3.0, 4.0]]
