"""Extractors of a user's project and of installed packages: real clips, pip, decoding children and workers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nmcl.extractors import plugins
from nmcl.flows.api import open_store
from nmcl.flows.cli.main import app
from nmcl.flows.run.files import extract
from nmcl.flows.settings import from_tree, to_tree
from nmcl.flows.stored_settings import of_store
from nmcl.pipeline.errors import ExtractorError, SettingsError, UserError
from nmcl.pipeline.media import MediaSettings, Request, decode
from nmcl.pipeline.needs import Sound
from nmcl.pipeline.records import Content, State
from nmcl.pipeline.storage.store import Store
from tests.own import (
    COMMAND,
    ENTRY_POINTS,
    MODULE,
    NO_OTHERS,
    OPTIONS,
    SETTINGS,
    TEST,
    TOY,
    Package,
    install,
    write_clips,
    write_project,
)

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TRACE = "Traceback (most recent call last)"
NAMED = "features.bands.extractor=bands:Bands"


def nmcl(*words: object, cwd: Path, code: int = 0, path: Path | None = None) -> str:
    """Run the console script, which does not have the working folder on its path. Returns everything it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_API", "PYTHON"))}
    own = {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, *([path] if path else [])])), "COLUMNS": "200"}
    command = [str(BIN / "nmcl"), *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=kept | own, capture_output=True, text=True, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert TRACE not in printed
    return printed


def here(*words: object) -> str:
    """Run a command in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, (words, done.output, done.stderr)
    return done.output


@pytest.fixture(autouse=True)
def nothing_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No module of a project or package is imported or permitted at the beginning."""

    def forget() -> None:
        plugins.permit({})
        plugins._of_project.cache_clear()
        plugins._entry_points.cache_clear()
        for name in ("bands", "broken_one", "taken"):
            sys.modules.pop(name, None)

    monkeypatch.setattr(sys, "path", [*sys.path])
    forget()
    yield
    forget()


def vectors(out: Path, name: str) -> dict[str, np.ndarray | None]:
    (folder,) = (out / "features").glob(f"{name}-*")
    found: dict[str, np.ndarray | None] = {}
    for file in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(file)
        rows = zip(*(table.column(name).to_pylist() for name in ("video_id", "vector")), strict=True)
        found |= {video_id: None if row is None else np.array(row, np.float32) for video_id, row in rows}
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's project after its command."""
    folder = tmp_path_factory.mktemp("own") / "project"
    write_project(folder)
    write_clips(folder / "my-videos")
    nmcl(*COMMAND.split()[1:], cwd=folder)
    return folder


@pytest.fixture
def copied(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, which is the working folder."""
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


def test_from_an_empty_folder_to_vectors_in_25_lines(project: Path) -> None:
    lines = [line for text in (MODULE, SETTINGS, COMMAND) for line in text.splitlines() if line.strip()]
    assert len(lines) <= 25
    found = vectors(project / "out", "bands")
    exported = pq.read_table(project / "features.parquet").to_pydict()
    assert found["3"] is None  # without sound
    space: dict[str, type] = {}
    exec(MODULE, space)
    for i in range(3):
        content = decode(Request(project / "my-videos" / f"{i}.mp4", (Sound(8000),)), MediaSettings())
        assert isinstance(content, Content)
        expected = space["Bands"]().extract([content.clip(Sound(8000))], State())[0]
        np.testing.assert_array_equal(found[str(i)], expected)
        np.testing.assert_array_equal(np.array(exported["bands"][i], np.float32), expected)
        assert expected.argmax() == (300 + 200 * i) * 12 // 4000  # the band of the clip's tone


def test_the_pages_test_passes(project: Path) -> None:
    (project / "test_bands.py").write_text(TEST)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bands.py"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{project}"}
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_its_settings_are_checked_like_built_in_ones(copied: Path) -> None:
    (copied / "settings.toml").write_text(f"{NO_OTHERS}\n{OPTIONS}")
    here("extract", "my-videos", "--out", "other", "--config", "settings.toml")
    assert {v.shape for v in vectors(copied / "other", "bands").values() if v is not None} == {(20,)}
    wrong = {"n_band": 3, "n_bands": "many"}
    said = ("There is no setting features.bands.n_band. Did you mean features.bands.n_bands?", "n_bands is 'many'")
    for (name, value), message in zip(wrong.items(), said, strict=True):
        with pytest.raises(SettingsError) as error:
            from_tree({"features": {"bands": {"extractor": "bands:AnyBands", name: value}}})
        assert message in str(error.value)


@pytest.mark.parametrize(
    "command",
    [
        "extract --out out",
        "ingest my-videos --out out",
        "run my-videos --out out",
        "retry --out out",
        "errors --out out",
        "export --out out --format csv",
        "reproduce --store out --out study",
        "verify --out out",
        "runs --out out",
        "features",
    ],
)
def test_a_store_causes_no_import(copied: Path, command: str) -> None:
    (copied / "bands.py").write_text('open("imported", "w").close()\n' + MODULE)
    if command.split()[0] in ("verify", "runs", "features"):
        here(*command.split())
    else:
        with pytest.raises(ExtractorError, match=f"add --set {NAMED}, or --config"):
            here(*command.split())
    assert not (copied / "imported").exists()
    assert "bands" not in sys.modules


def test_a_deployments_settings_cause_no_import(copied: Path) -> None:
    sys.path.append(str(copied))
    with pytest.raises(ExtractorError, match=f"add --set {NAMED}"):
        of_store(Store.create("new"), {"features": {"bands": {"extractor": "bands:Bands"}}})
    assert "bands" not in sys.modules


def test_a_command_permits_no_later_one(copied: Path) -> None:
    here("errors", "--out", "out", "--set", NAMED)
    with pytest.raises(ExtractorError):
        here("errors", "--out", "out")


def test_in_python_it_is_named_when_the_store_is_opened(copied: Path) -> None:
    with pytest.raises(ExtractorError, match=r"nmcl\.open\(STORE, extractors=\['bands:Bands'\]\)"):
        open_store("out").features("bands")
    table = open_store("out", extractors=["bands:Bands"]).features("bands").to_pandas()
    expected = vectors(copied / "out", "bands")
    for video_id, vector in zip(table["video_id"], table["bands"], strict=True):
        if (wanted := expected[video_id]) is not None:
            np.testing.assert_array_equal(vector, wanted)


def test_the_folder_of_the_settings_file_is_searched(copied: Path) -> None:
    words = ("export", "--out", copied / "out", "--format", "csv", "--to", copied / "features.csv")
    nmcl(*words, "--config", copied / "settings.toml", cwd=copied.parent)
    assert (copied / "features.csv").exists()
    said = nmcl("errors", "--out", copied / "out", "--set", NAMED, cwd=copied.parent, code=2)
    assert said.strip() == (
        "error: The extractor bands:Bands (your project) cannot be imported: "
        "ModuleNotFoundError: No module named 'bands'."
    )


def test_a_set_can_be_replaced_without_importing_its_extractor(copied: Path) -> None:
    (copied / "bands.py").unlink()
    settings = of_store(Store.open("out"), {"features": {"bands": {"extractor": "logmel"}}})
    assert settings.features["bands"].build().dim == 128
    with pytest.raises(UserError, match="No feature set is left"):
        of_store(Store.open("out"), {"features": {name: {"extractor": "none"} for name in ("bands", "ngrams")}})


OWN_NEED = """
from dataclasses import dataclass

import numpy as np
import torch  # large: not counted against the memory of a decoding process

from nmcl.pipeline.needs import Frames
from nmcl.pipeline.records import State


@dataclass(frozen=True)
class Last:
    def start(self):
        return LastOfOne()


class LastOfOne:
    def add(self, frame):
        self.frame = frame

    def chosen(self):
        return [self.frame]


def top_left(picture):
    return picture[:8, :8]


class Shade:
    modality, dim, fit_videos = "visual", 1, 0
    need = Frames(Last(), top_left)

    def address(self):
        return {"code_version": 1}

    def fit(self, clips, progress):
        return State()

    def extract(self, clips, state):
        return np.array([np.nan if c.frames is None else c.frames.mean() for c in clips], np.float32)[:, None]
"""


@pytest.mark.parametrize(
    "engine",
    [
        "processes",
        pytest.param("threads", marks=pytest.mark.services),
        pytest.param("dask", marks=pytest.mark.services),
        pytest.param("ray", marks=pytest.mark.services),
    ],
)
def test_workers_and_decoding_children_import_it(engine: str, tmp_path: Path) -> None:
    if engine in ("dask", "ray"):
        pytest.importorskip(f"prefect_{engine}", reason=f"prefect-{engine} is not installed")
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "shade.py").write_text(OWN_NEED)
    named = NO_OTHERS.replace("[features]\n", '[features]\nshade.extractor = "shade:Shade"\n')
    (folder / "settings.toml").write_text(f"{named}\n[media]\nmemory_mb = 512\n[ingest]\npart_size = 2\n")
    clips = write_clips(tmp_path / "clips")
    words = ("extract", clips, "--out", "out", "--config", folder / "settings.toml")
    nmcl(*words, "--engine", engine, "--workers", 2, cwd=tmp_path)
    found = vectors(tmp_path / "out", "shade")
    assert len(found) == 4
    for vector in found.values():
        assert vector is not None
        assert abs(vector[0] - 120) < 4  # the last frames are of this grey level


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installed packages: the page's, one that is broken, one whose name is taken, and two with the same name."""

    def points(name: str, what: str) -> str:
        return ENTRY_POINTS.replace('bands = "bands:Bands"', f'{name} = "{what}"')

    folder = tmp_path_factory.mktemp("pip") / "packages"
    install(
        folder,
        [
            TOY,
            Package("toy-broken", "1.0", "broken_one", "import absent_module", points("broken", "broken_one:Bands")),
            Package("toy-taken", "1.0", "taken", MODULE, points("logmel", "taken:Bands")),
            Package("toy-one", "1.0", "one", MODULE, points("twice", "one:Bands")),
            Package("toy-two", "1.0", "two", MODULE, points("twice", "two:Bands")),
        ],
    )
    return folder


def test_installed_extractors_are_listed(packages: Path) -> None:
    sys.path.append(str(packages))
    rows = {row["name"]: row for row in json.loads(CliRunner().invoke(app, ["features", "--json"]).stdout)}
    assert (rows["bands"]["modality"], rows["bands"]["dim"]) == ("acoustic", 12)
    assert rows["bands"]["source"] == "toy-bands 1.2"
    assert rows["broken"]["source"] == "toy-broken 1.0"
    assert "No module named 'absent_module'" in rows["broken"]["weights"]
    assert rows["logmel"]["dim"] == 128
    assert "Several packages bring an extractor twice: toy-" in rows["twice"]["weights"]


@pytest.mark.parametrize(
    ("extractor", "said"),
    [
        ("broken", r"The extractor broken \(toy-broken 1.0\) cannot be imported: ModuleNotFoundError"),
        ("twice", "Several packages bring an extractor twice: toy-"),
        ("band", "Did you mean bands?"),
    ],
)
def test_one_that_cannot_be_used_is_one_sentence(packages: Path, extractor: str, said: str) -> None:
    sys.path.append(str(packages))
    with pytest.raises(ExtractorError, match=said):
        from_tree({"features": {"mine": {"extractor": extractor}}})


def test_a_script_uses_an_installed_extractor(packages: Path, project: Path) -> None:
    sys.path.append(str(packages))
    found = extract(project / "my-videos" / "0.mp4", ["bands"])
    np.testing.assert_array_equal(found.features["bands"][0], vectors(project / "out", "bands")["0"])


def test_deployments_know_installed_extractors(packages: Path) -> None:
    from jsonschema import Draft202012Validator

    from nmcl.flows.settings import json_schema

    sys.path.append(str(packages))
    schema = Draft202012Validator(json_schema())
    assert schema.is_valid({"features": {"mine": {"extractor": "bands"}}})
    assert not schema.is_valid({"features": {"mine": {"extractor": "bands:Bands"}}})
    assert "bands" not in sys.modules


def test_an_installed_extractor_is_used_until_it_is_removed(packages: Path, tmp_path: Path) -> None:
    installed = Path(shutil.copytree(packages, tmp_path / "packages"))
    write_clips(tmp_path / "my-videos")
    (tmp_path / "settings.toml").write_text(SETTINGS.replace("bands:Bands", "bands"))
    words = ("--config", "settings.toml", "--set", "features.levels.extractor=logmel")
    printed = nmcl("extract", "my-videos", "--out", "out", *words, cwd=tmp_path, path=installed)
    assert printed.count("toy-taken 1.0 also brings an extractor logmel: the built-in one is used.") == 1
    assert vectors(tmp_path / "out", "bands").keys() == {"0", "1", "2", "3"}
    (recipe,) = (tmp_path / "out" / "metadata" / "features").glob("bands-*/recipe.json")
    assert json.loads(recipe.read_text())["settings_in_full"]["features"]["bands"]["source"] == "toy-bands 1.2"
    shutil.rmtree(installed)
    (said,) = nmcl("extract", "--out", "out", cwd=tmp_path, code=2).strip().splitlines()
    assert said.startswith("error: features.bands.extractor is 'bands'; expected one of resnet50, ")
    assert said.endswith("If a package brings it, install that; features.bands.extractor=none leaves the set out.")
    nmcl("extract", "--out", "out", "--set", "features.bands.extractor=none", cwd=tmp_path)


def test_a_run_is_used_and_retrained_by_commands_that_name_it(
    small_crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    others = "\n[split]\nmin_venue_videos = 4\n[model]\nname = 'logistic'\n"
    named = ("--config", write_project(tmp_path / "project", SETTINGS + others))
    here("ingest", small_crawl, "--out", "out", *named)
    here("evaluate", "--out", "out", *named)
    words = ("predict", small_crawl, "--model", "out", "--out", "venues.csv")
    retrained = ("retrain", small_crawl, "--out", "out")
    here("features")
    for command in (words, retrained):
        with pytest.raises(ExtractorError, match=f"add --set {NAMED}"):
            here(*command, "--set", "media.timeout_s=500")
    here(*words, *named)
    assert len((tmp_path / "venues.csv").read_text().splitlines()) == 15
    with pytest.raises(SettingsError, match=r"split\.\* cannot be set for a prediction"):
        here(*words, *named, "--set", "split.seed=3")
    assert "nothing" in here(*retrained, *named)
    settings = Store.open("out").read_json("settings.json")
    assert settings == json.loads(json.dumps(to_tree(from_tree(settings))))
