"""The wheel holds all that a run needs, and folders of a project with our names do not matter."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import own
from tests.faults.world import SETTINGS, write_crawl

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("nmcl", "pipeline", "extractors", "model", "flows")
FILES = ("pyproject.toml", "prefect.yaml", "README.md", "LICENSE")
MARKER = "a module of the project was imported"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored, symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder / "source")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    ]
    done = subprocess.run([*build, folder / "source"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_it_holds_every_module_and_data_file_as_one_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        packed = set(file.namelist())
    for package in SOURCES[1:]:
        listed = subprocess.run(["git", "ls-files", package], cwd=ROOT, capture_output=True, text=True, check=True)
        assert {f"nmcl/{name}" for name in listed.stdout.split()} <= packed
    assert {"nmcl/__init__.py", "nmcl/py.typed", "nmcl/prefect.yaml", "nmcl/testing.py"} <= packed
    assert {name.split("/")[0] for name in packed if ".dist-info/" not in name} == {"nmcl"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an empty virtual environment after `pip install`, with all that the wheel depends on."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*install, "-c", ROOT / "constraints.txt", wheel], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with packages of the same names as ours, which must not be imported, and a crawl."""
    for name in SOURCES[1:]:
        (tmp_path / name).mkdir()
        for module in ("__init__.py", "flows.py", "records.py"):
            (tmp_path / name / module).write_text(f"raise ImportError({MARKER!r})\n")
    write_crawl(tmp_path / "crawl", 24, first=0)
    return tmp_path


def run(folder: Path, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A command of the installed package in the project's folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON", "NMCL_"))}
    env = kept | {"PREFECT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)} | env
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_commands_of_a_clone_import_nothing_of_the_project(project: Path) -> None:
    """The current folder comes first on the path, as where a script of the project calls us."""
    script = "import nmcl.flows.cli.main, nmcl.flows.engine.flows, nmcl.model.registry"
    done = run(project, sys.executable, "-c", script, PYTHONPATH=f"{project}:{ROOT}")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_the_main_job(installed: Path, project: Path) -> None:
    nmcl, sets = installed / "nmcl", [f"--set={assignment}" for assignment in SETTINGS]
    assert run(project, nmcl, "--version").stdout.startswith("nmcl ")
    assert run(project, nmcl, "sample", "rendered").returncode == 0
    done = run(project, nmcl, "run", "crawl", "--out", "out", *sets)
    assert done.returncode == 0, done.stderr
    predicted = run(project, nmcl, "predict", "crawl", "--model", "out", "--out", "venues.csv")
    assert predicted.returncode == 0, predicted.stderr
    assert len((project / "venues.csv").read_text().splitlines()) == 27
    assert "Nothing to do" in run(project, nmcl, "run", "crawl", "--out", "out").stdout


@pytest.mark.long
def test_an_extractor_of_another_package(installed: Path, project: Path) -> None:
    """Installed with pip, used, and removed."""
    own.write_package(project / "toy", own.TOY)
    pip = (installed / "python", "-m", "pip", "--disable-pip-version-check")
    done = run(project, *pip, "install", "--quiet", "./toy")
    assert done.returncode == 0, done.stderr
    assert "toy-bands 1.2" in run(project, installed / "nmcl", "features", "--json").stdout
    (project / "settings.toml").write_text(own.SETTINGS.replace("bands:Bands", "bands"))
    done = run(project, installed / "nmcl", "extract", "crawl", "--out", "own", "--config", "settings.toml")
    assert done.returncode == 0, done.stderr
    assert run(project, *pip, "uninstall", "--quiet", "--yes", "toy-bands").returncode == 0
    done = run(project, installed / "nmcl", "extract", "--out", "own")
    assert done.returncode == 2
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("error: features.bands.extractor is 'bands'; expected one of resnet50, ")


@pytest.mark.long
def test_the_tutorials_extractor_of_a_project(installed: Path, project: Path) -> None:
    """`module:Class` as docs/own-extractor.md has it, typed where nothing but the wheel is installed."""
    own.write_project(project / "mine")
    own.write_clips(project / "mine" / "my-videos")
    done = run(project / "mine", installed / "nmcl", *own.COMMAND.split()[1:])
    assert done.returncode == 0, done.stderr
    read = (
        "import pyarrow.parquet as q; t = q.read_table('features.parquet');"
        "print([len(v) for v in t['bands'].to_pylist()], *t['bands_observed'].to_pylist())"
    )
    shown = run(project / "mine", installed / "python", "-c", read)
    assert shown.stdout == "[12, 12, 12, 12] True True True False\n", shown.stderr
    (project / "mine" / "bands.py").unlink()
    done = run(project / "mine", installed / "nmcl", "extract", "--out", "out", "--config", "settings.toml")
    assert done.returncode == 2
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("error: The extractor bands:Bands (your project) cannot be imported: ModuleNotFoundError")


@pytest.mark.long
def test_deployments_in_any_folder(installed: Path, project: Path) -> None:
    settings = run(project, installed / "nmcl", "ingest", "crawl", "--out", "out", *[f"--set={s}" for s in SETTINGS])
    assert settings.returncode == 0, settings.stderr
    up = run(project, installed / "nmcl", "up")
    try:
        assert up.returncode == 0, up.stderr
        started = ("deployment", "run", "extract-features", "--param", "crawl=crawl", "--param", "out=out", "--watch")
        done = run(project, installed / "prefect", *started, PREFECT_PLUGINS_ENABLED="true")
        assert done.returncode == 0, done.stdout + done.stderr
        assert list((project / "out" / "features").glob("visual-*/part-*.parquet"))
    finally:
        run(project, installed / "nmcl", "down")
