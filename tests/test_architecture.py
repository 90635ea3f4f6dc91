"""Imports point one way, and a library is imported only where it is listed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOORS = {
    "pyarrow.parquet": {"pipeline/storage/tables.py", "pipeline/crawl/formats.py", "flows/run/predict.py"},
    "torchvision": {"extractors/visual.py"},
    "efficientnet_lite_pytorch": {"extractors/visual.py"},
    "openvino": {"extractors/network.py"},
    "librosa": {"extractors/spectrogram.py"},
    "gensim": {"extractors/textual.py"},
    "implicit": {"pipeline/completion/implicit_als.py"},
    "ffmpeg": {"pipeline/media/sound.py"},
    "joblib": {"model/study/runner.py"},
    "ijson": {"pipeline/crawl/sidecars.py"},
    "av": {
        "pipeline/media/decode.py",
        "pipeline/media/files.py",
        "pipeline/media/pool.py",
        "pipeline/media/sound.py",
        "pipeline/media/streams.py",
        "pipeline/media/work.py",
        "pipeline/media/frames.py",
        "pipeline/crawl/sample.py",
        "pipeline/bench/decoding.py",
    },
    "fsspec": {"pipeline/storage/store.py"},
    "prefect": {
        "flows/engine/flows.py",
        "flows/engine/tasks.py",
        "flows/engine/events.py",
        "flows/engine/plugin.py",
        "flows/engine/runners.py",
        "flows/engine/sweep.py",
    },
    "asyncpg": {"flows/service/database.py"},
    "psutil": {"flows/service/service.py", "flows/service/orphans.py"},
    "typer": {"flows/cli/main.py"},
}


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_is_imported_only_at_its_doors(library: str) -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("pipeline", "extractors", "model", "flows")
        for path in (ROOT / package).rglob("*.py")
        if library in _imported(path)
    }
    assert found == DOORS[library]


def _imported(path: Path) -> set[str]:
    """Every library, and what is directly in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(parts[:n]) for parts in (name.split(".") for name in names) for n in (1, 2)}
