"""README and docs are true: their commands, settings, links and files exist, and nothing is left undocumented."""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer.main

from nmcl.flows.bench.registry import BENCHES
from nmcl.flows.cli.main import app
from nmcl.flows.engine_settings import ENGINES
from nmcl.flows.run.sources import STORE
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import load_tree
from nmcl.model.nmcl.nmcl import NMCLSettings
from nmcl.model.registry import ABLATIONS, MODELS
from nmcl.pipeline.completion import COMPLETERS
from nmcl.pipeline.crawl.columns import NAMES
from nmcl.pipeline.crawl.files import SIDECAR_SUFFIXES, VIDEO_SUFFIXES
from nmcl.pipeline.crawl.formats import FORMATS
from nmcl.pipeline.records import Clip, State
from nmcl.pipeline.storage.failures import WHAT_TO_DO
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, from_vectors
from tests import own
from tests.readme import PAGES, PROSE, README, blocks, example_extractor

ROOT = Path(__file__).resolve().parent.parent


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 160


def test_settings_are_accepted() -> None:
    for text in blocks("toml"):
        if text not in (own.SETTINGS, own.OPTIONS, own.ENTRY_POINTS):  # tried in tests/flows/test_own_extractor.py
            from_tree(tomllib.loads(text))
    n_found = 0
    for text in PAGES.values():
        for line in text.splitlines():
            named = re.findall(r"--set ([a-z_.]+=[^\s`\")]+)", line)
            assignments = [found for found in named if not found.split("=")[1].isupper()]
            from_tree(load_tree(None, assignments))
            n_found += len(assignments)
    assert n_found > 10


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+(?:\.[a-z_]+)+)` \| `([^`]+)` \| \S", PROSE, re.MULTILINE))
    assert rows == {name: shown(value) for name, value in flat(to_tree(Settings()))}


def test_every_setting_of_other_models_is_documented_with_its_default() -> None:
    rows = {}
    pattern = r"^\| ((?:`\w+`(?:, )?)+) \| `(\w+)` \| `([^`]+)` \| \S"
    for models, name, default in re.findall(pattern, PROSE, re.MULTILINE):
        rows |= {(model, name): default for model in re.findall(r"\w+", models)}
    assert rows == {
        (model, name): shown(value)
        for model, method in MODELS.items()
        if not isinstance(method.settings, NMCLSettings)
        for name, value in vars(method.settings).items()
        if name != "train"  # the same settings as those of nmcl
    }


def test_commands_exist_with_their_options() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [
        line
        for text in PAGES.values()
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    calls = [call for line in lines if (call := re.match(r"(?:\S+=\S+ )*(?:\.venv/bin/)?nmcl (\w+)([^#]*)", line))]
    assert len(calls) > 40
    for call in calls:
        options = {option for parameter in commands[call[1]].params for option in parameter.opts}
        assert set(re.findall(r" (--[a-z-]+)", call[2])) <= options, call[0]
    for name in commands:
        assert re.search(rf"\bnmcl {name}\b", PROSE), f"`nmcl {name}` is in neither README nor docs"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z-]+)\b", "".join(blocks("sh") + re.findall("`.*?`", PROSE)))):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_run_without_out_goes_where_a_deployment_without_out_does() -> None:
    command = ["make", "--dry-run", "run", "CRAWL=crawls/monday/"]
    environment = {name: value for name, value in os.environ.items() if name != "OUT"}
    planned = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f'"crawls/monday/" --out "{STORE}"' in planned.stdout
    assert f"/{STORE}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_files_exist() -> None:
    named = re.findall(r"`((?:pipeline|extractors|model|flows|tests|docker)/[\w./-]*)", "\n".join(PAGES.values()))
    assert len(named) > 50
    for path in set(named):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)#?([^)]*)\)", PAGES[page]):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", PAGES[path], re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, anchor


def test_every_page_is_in_the_readme() -> None:
    for page in PAGES:
        assert page.name == "README.md" or f"({page.relative_to(ROOT)})" in README, page


def test_registries_are_documented() -> None:
    for name in [*MODELS, *ABLATIONS, *COMPLETERS, *ENGINES, *BENCHES, *WHAT_TO_DO]:
        assert f"`{name}`" in PROSE, name


def test_crawl_formats_are_documented() -> None:
    text = PAGES[ROOT / "docs" / "file-formats.md"]
    for name in [name for names in NAMES.values() for name in names]:
        assert f"`{name}`" in text, name
    for suffix in (*VIDEO_SUFFIXES, *FORMATS, *SIDECAR_SUFFIXES):
        assert re.search(rf"{re.escape(suffix)}\b", text), suffix


def test_the_example_extractor_works() -> None:
    extractor = example_extractor()
    clips = [Clip(frames=np.full((2, 4, 4, 3), 9, np.uint8)), Clip()]
    np.testing.assert_array_equal(extractor.extract(clips, State()), np.array([[9], [np.nan]], np.float32))


def test_vectors_are_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(block for block in blocks("python") if "pyarrow.dataset" in block)
    store = Store.create(tmp_path / "out")
    for key, vectors in (("a", [[1.0, 2.0]]), ("b", [[np.nan, np.nan], [3.0, 4.0]])):
        columns = {"vector": from_vectors(np.array(vectors, np.float32))}
        store.write(f"features/visual-7c92c5c6f8bb/part-{key}.parquet", encode(pa.table(columns)))
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(code, space)
    expected = [[1.0, 2.0], None, [3.0, 4.0]]
    assert space["table"].column("vector").to_pylist() == space["columns"]["vector"].to_list() == expected
    assert [None if row is None else row.tolist() for row in space["frame"]["vector"]] == expected
    assert [None if row is None else list(row) for (row,) in space["rows"]] == expected
