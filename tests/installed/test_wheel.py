"""The wheel, installed where no source is: it holds all that a run needs."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.faults.world import SETTINGS, write_crawl

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pipeline", "extractors", "model", "flows", "nmcl", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored, symlinks=True)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "source"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new environment with the wheel; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, wheel]
    subprocess.run(install, check=True)
    scripts = folder / "bin"
    for script in (packages / "bin").iterdir():
        lines = script.read_text().splitlines(keepends=True)
        (scripts / script.name).write_text("".join([f"#!{scripts / 'python'}\n", *lines[1:]]))
        (scripts / script.name).chmod(0o755)
    return scripts


def run(scripts: Path, folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command away from the repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PYTHON", "NMCL_"))}
    env = kept | {"PREFECT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    command = [scripts / "nmcl", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_every_module_and_data_file_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        packed = {name.removeprefix("nmcl/") for name in file.namelist()}
    for package in ("pipeline", "extractors", "model", "flows"):
        listed = subprocess.run(["git", "ls-files", package], cwd=ROOT, capture_output=True, text=True, check=True)
        assert {*listed.stdout.split()} <= packed


def test_the_code_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    script = "import flows, pipeline; print(flows.__file__, pipeline.__file__)"
    command = [installed / "python", "-c", script]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert all(path.startswith(str(installed.parent)) for path in done.stdout.split())


def test_the_main_job(installed: Path, tmp_path: Path) -> None:
    write_crawl(tmp_path / "crawl", 24, first=0)
    sets = [f"--set={assignment}" for assignment in SETTINGS]
    done = run(installed, tmp_path, "run", "crawl", "--out", "out", *sets)
    assert done.returncode == 0, done.stderr
    predicted = run(installed, tmp_path, "predict", "crawl", "--model", "out", "--out", "venues.csv")
    assert predicted.returncode == 0, predicted.stderr
    assert len((tmp_path / "venues.csv").read_text().splitlines()) == 27
    again = run(installed, tmp_path, "run", "crawl", "--out", "out")
    assert "Nothing had to be done" in again.stdout
