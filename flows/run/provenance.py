"""What a run was made with, beyond its recipe: version, commit, libraries, machine and command."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "openvino", "numpy", "scipy", "scikit-learn", "librosa", "gensim", "av", "pyarrow")


def made_with(command: str, is_sample: bool) -> dict[str, Any]:
    """Return the JSON values of `PROVENANCE`: `version, commit, python, libraries, machine, command, is_sample`."""
    return {
        "version": version("nmcl"),
        "commit": commit(),
        "python": platform.python_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": command,
        "is_sample": is_sample,
    }


def commit() -> str | None:
    """Return the commit of the code, with `+` for changes in the working tree; None outside a clone."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        found = _git(folder, "rev-parse", "--short=12", "HEAD").strip()
        return found + ("+" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):  # no git, or the clone belongs to another user
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
