"""Imports point one way, and a library is imported only where it is listed."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "extractors", "model", "flows")
DOORS = {
    "pyarrow.parquet": {
        "pipeline/storage/tables.py",
        "pipeline/crawl/formats.py",
        "pipeline/export/rows.py",
        "flows/run/predict.py",
    },
    "torchvision": {"extractors/visual.py"},
    "efficientnet_lite_pytorch": {"extractors/visual.py"},
    "openvino": {"extractors/network.py"},
    "sentence_transformers": {"extractors/sentences.py"},
    "timm": {"extractors/timm.py"},
    "librosa": {"extractors/spectrogram.py"},
    "gensim": {"extractors/textual.py"},
    "implicit": {"pipeline/completion/implicit_als.py"},
    "ffmpeg": {"pipeline/media/sound.py"},
    "joblib": {"model/study/runner.py"},
    "ijson": {"pipeline/crawl/sidecars.py"},
    "av": {
        "pipeline/media/check.py",
        "pipeline/media/decode.py",
        "pipeline/media/files.py",
        "pipeline/media/pool.py",
        "pipeline/media/sound.py",
        "pipeline/media/streams.py",
        "pipeline/media/probe.py",
        "pipeline/media/work.py",
        "pipeline/media/frames.py",
        "pipeline/crawl/sample.py",
        "pipeline/bench/decoding.py",
    },
    "fsspec": {"pipeline/storage/store.py"},
    "prefect": {
        "flows/engine/flows.py",
        "flows/engine/tasks.py",
        "flows/engine/plugin.py",
        "flows/engine/run_name.py",
        "flows/engine/runners.py",
        "flows/engine/clusters.py",
        "flows/engine/sweep.py",
    },
    "asyncpg": {"flows/service/database.py"},
    "prometheus_client": {"flows/run/metrics.py"},
    "psutil": {"flows/run/doctor.py", "flows/service/service.py", "flows/service/orphans.py"},
    "typer": {
        f"flows/cli/{name}.py"
        for name in (
            "app",
            "checks",
            "experiments",
            "explore",
            "export",
            "options",
            "predict",
            "reference",
            "report",
            "retrain",
            "run",
            "serve",
            "settings",
            "status",
            "store",
            "upkeep",
        )
    },
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
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if library in _imported(path)
    }
    assert found == DOORS[library]


def test_modules_are_imported_as_parts_of_nmcl() -> None:
    """Under a second name a module would be a second module, with classes and settings of its own."""
    own = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    bare = [path for path in own.stdout.split() if {*PACKAGES} & _imported(ROOT / path)]
    assert bare == []


def test_no_import_cycle_hides_in_a_function_or_behind_type_checking() -> None:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    modules = {".".join(("nmcl", *path.relative_to(ROOT).with_suffix("").parts)): path for path in files}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    imports = {}
    for name, path in modules.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        pairs = [(node.module or "", f"{node.module}.{alias.name}") for node in nodes for alias in node.names]
        imports[name] = {inner if inner in modules else module for module, inner in pairs} & {*modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules


def _imported(path: Path) -> set[str]:
    """Every library, and what is directly in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {".".join(parts[:n]) for parts in (name.split(".") for name in names) for n in (1, 2)}
