"""`nmcl verify` and its exit code."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "out"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "1"}', b"\0" * 9])
def test_a_damaged_marker_is_a_finding(content: bytes, out: Path) -> None:
    (out / "store.json").write_bytes(content)
    for options in (["--json"], ["--json", "--repair"]):
        done = CliRunner().invoke(app, ["verify", "--out", str(out), *options])
        assert done.exit_code == 6
        (problem,) = json.loads(done.stdout)["problems"]
        assert problem["file"] == "store.json"
        assert not problem["repairable"]
    (out / "store.json").write_text('{"format": 1, "made_by": "nmcl"}')  # as it says
    assert CliRunner().invoke(app, ["verify", "--out", str(out)]).exit_code == 0


def test_what_is_no_store_or_of_a_later_version_is_the_users_matter(out: Path, tmp_path: Path) -> None:
    Store(out).write_json("store.json", {"format": 2})
    assert "Upgrade nmcl" in nmcl("verify", "--out", out, code=2).stderr
    shutil.rmtree(out)
    assert "is not an nmcl store" in nmcl("verify", "--out", tmp_path, code=2).stderr
