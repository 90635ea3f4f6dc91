"""`nmcl settings`, on real stores."""

import json
import shutil
import tarfile
import tomllib
from pathlib import Path

import pytest

from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import of_store
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here

ARCHIVE = Path(__file__).parents[2] / "data" / "store-28a06ff.tar.xz"


def test_values_are_those_of_the_store(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(trained, out, symlinks=True)
    before = (out / "settings.json").read_bytes()
    code, said, _ = nmcl_here("settings", "--out", out, "--json", capsys=capsys, monkeypatch=monkeypatch)
    rows = {row["name"]: row for row in json.loads(said)}
    assert (code, said.isascii()) == (0, True)
    assert rows["ingest.part_size"]["value"] == 2
    assert rows["ingest.part_size"]["default"] == 256
    assert rows["model.name"]["value"] == "logistic"
    code, said, _ = nmcl_here("settings", "split", "--out", out, capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    assert "split.min_venue_videos = 4   (default: 50)\n    Labels with fewer videos" in said
    code, said, _ = nmcl_here("settings", "--out", out, "--toml", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    store = Store.open(str(out))
    assert from_tree(tomllib.loads(said)) == of_store(store, {})
    assert of_store(store, tomllib.loads(said)) == of_store(store, {})
    assert (out / "settings.json").read_bytes() == before


def test_a_store_of_an_early_version_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    [out] = (path.parent for path in tmp_path.rglob("store.json"))
    code, said, _ = nmcl_here("settings", "--out", out, "--json", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 0
    kept = json.loads((out / "settings.json").read_text())
    rows = {row["name"]: row["value"] for row in json.loads(said)}
    assert rows["split.min_venue_videos"] == kept["split"]["min_venue_videos"]
    assert rows["features.words.extractor"] == "none"


def test_wrong_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, expected in (
        (("nosuch",), "There is no section or setting 'nosuch'."),
        (("--json", "--toml"), "--json and --toml cannot be combined."),
        (("--out", tmp_path / "none"), "none"),
    ):
        code, said, error = nmcl_here("settings", *arguments, capsys=capsys, monkeypatch=monkeypatch)
        assert (code, said, error.count("\n")) == (2, "", 1)
        assert expected in error
