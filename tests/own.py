"""A user's project and packages with extractors, as docs/own-extractor.md has them."""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.media import shades, tone, write_video
from tests.readme import PAGES, ROOT

PAGE = PAGES[ROOT / "docs" / "own-extractor.md"]


def page_blocks(language: str) -> list[str]:
    """Examples of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


MODULE, SETTINGS_CLASS, TEST = page_blocks("python")
SETTINGS, OPTIONS, ENTRY_POINTS = page_blocks("toml")
(COMMAND,) = page_blocks("sh")

NO_OTHERS = SETTINGS.replace('bands.extractor = "bands:Bands"\n', "")
"""Settings that leave out the default sets."""


def write_clips(folder: Path, n_clips: int = 4) -> Path:
    """Clips with sound, except the last."""
    folder.mkdir()
    for i in range(n_clips):
        sound = tone(300 + 200 * i, 0.6) if i < n_clips - 1 else None
        write_video(folder / f"{i}.mp4", shades([20 + 30 * i, 120], 3), sound=sound)
    return folder


def write_project(folder: Path, settings: str = SETTINGS) -> Path:
    """The page's project, with the class that has settings too. Returns the settings file."""
    folder.mkdir(exist_ok=True)
    (folder / "bands.py").write_text(f"{MODULE}\n{SETTINGS_CLASS}")
    (folder / "settings.toml").write_text(settings)
    return folder / "settings.toml"


@dataclass(frozen=True)
class Package:
    """A package of one module."""

    name: str
    version: str
    module: str
    text: str
    entry_points: str
    """Table of pyproject.toml."""


TOY = Package("toy-bands", "1.2", "bands", MODULE, ENTRY_POINTS)
"""The page's package."""


def write_package(folder: Path, package: Package) -> Path:
    """Write the sources of a package. Returns their folder."""
    folder.mkdir()
    (folder / f"{package.module}.py").write_text(package.text)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{package.name}"\nversion = "{package.version}"\n{package.entry_points}'
        f'[tool.setuptools]\npy-modules = ["{package.module}"]\n'
    )
    return folder


def install(into: Path, packages: Sequence[Package]) -> None:
    """Install packages into a folder with pip."""
    folders = [str(write_package(into.parent / f"source-{package.name}", package)) for package in packages]
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(into), *folders]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
