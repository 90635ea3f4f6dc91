"""docs/python.md is true: its examples run, section by section, as in a notebook."""

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nmcl
from nmcl.flows.cli.main import app
from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.store import Store
from tests.media import shades, tone, write_video

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SECTIONS = {
    title: re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
}


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store `out` and videos in `clips`, one of which is none."""
    with tarfile.open(ROOT / "tests" / "data" / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(3):
        write_video(clips / f"{i}.mp4", shades([20, 200], 4), sound=tone(300, 0.8) if i else None)
    (clips / "3.mp4").write_bytes(b"no video")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(title: str) -> dict[str, Any]:
    space: dict[str, Any] = {}
    for block in SECTIONS[title]:
        exec(block, space)
    return space


def test_every_section_has_examples() -> None:
    assert [len(blocks) for blocks in SECTIONS.values()] == [4, 2, 3, 2]
    linked = [*dict.fromkeys(re.findall(r"\(#([\w-]+)\)", PAGE))]
    assert linked == [title.lower().replace(" ", "-") for title in SECTIONS]


@pytest.mark.own_process
def test_features_of_a_store(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = run("Features of a store")
    assert space["matrices"]["visual"].shape == (98, 1280)
    assert space["x"].shape == (len(space["y"]), 1280)
    assert len(space["catalogue"]) == 98
    assert space["loss"].item() < 5
    assert space["head"].in_features == 1280 + 16
    assert len(re.findall(r"^(?:nmcl|logistic)-\w+ \S+ 0\.\d+$", capsys.readouterr().out, re.MULTILINE)) == 2


def test_sequences_of_a_store(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = {name: {"extractor": "none"} for name in ("acoustic", "textual")}
    features["visual"] = {"extractor": "efficientnet_lite0", "sequence": True}  # type: ignore[dict-item]
    settings = from_tree({"features": features, "media": {"max_failed_share": 1.0}})
    remember(Store.create(notebook / "frames"), settings)
    assert CliRunner().invoke(app, ["extract", "clips", "--out", "frames"]).exit_code == 0
    space = run("Sequences of a store")
    lengths = space["lengths"]
    assert space["vectors"].shape == (4, max(lengths), 1280)
    assert lengths[3] == 0 < min(lengths[:3])
    assert [n for n in space["frame"]["visual_sequence"].map(len, na_action="ignore") if n == n] == lengths[:3]
    assert re.findall(r"^\d \((\d+), 1280\) \[0\.0", capsys.readouterr().out, re.MULTILINE) == [
        str(n) for n in lengths[:3]
    ]


def test_vectors_of_some_files(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = run("Vectors of some files")
    assert space["found"].features["logmel"].shape == (4, 128)
    assert "clips/3.mp4 unreadable: " in capsys.readouterr().out
    assert space["frame"]["logmel"].isna().tolist() == [True, False, False, True]
    assert space["predictions"].column("status").to_pylist() == ["ok", "ok", "ok", "partial"]


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_classifier_of_your_own_arrays(notebook: Path) -> None:
    space = run("A classifier of your own arrays")
    assert space["accuracy"] > 0.85
    assert isinstance(space["model"], nmcl.NMCLClassifier)
    assert len(space["model"].trained_.history) <= 5
