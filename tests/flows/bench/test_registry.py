"""`nmcl bench`: what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nmcl.flows.bench import registry
from nmcl.flows.cli.main import app
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.errors import SettingsError


@pytest.fixture
def two_benches(monkeypatch: pytest.MonkeyPatch) -> None:
    def bench(request: registry.Request) -> Result:
        size = 100.0 if request.full else 1.0
        return Result({"size": size}, {"to_floor": 1.5}, [] if request.full else ["reduced"])

    monkeypatch.setattr(registry, "BENCHES", {"one": bench, "two": bench})


def test_all_writes_an_object_per_bench(two_benches: None, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "all", "--json", str(tmp_path / "new" / "bench.json")])
    assert done.exit_code == 0
    assert "to_floor" in done.output
    assert "reduced" in done.output
    found = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert list(found) == ["one", "two"]
    assert found["one"].keys() == {"figures", "ratios", "machine"}
    assert found["one"]["figures"] == {"size": 1.0, "notes": ["reduced"]}


def test_one_writes_its_own_object(two_benches: None, tmp_path: Path) -> None:
    CliRunner().invoke(app, ["bench", "two", "--full", "--json", str(tmp_path / "bench.json")])
    assert json.loads((tmp_path / "bench.json").read_text())["figures"] == {"size": 100.0, "notes": []}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="expected one of extract, decode, complete, head, train, predict, scale, all"
    ):
        registry.run_benches("everything", registry.Request())
