"""Where a server's database and logs are, and how the logs are rotated while a real process writes to one."""

import subprocess
import sys
from pathlib import Path

import pytest

from nmcl.flows.service.server import KEPT_LOGS, default_home, rotate


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user without settings."""
    for name in ("NMCL_HOME", "PREFECT_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_is_the_users_or_the_one_that_is_named(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_home() == user / ".local" / "state" / "nmcl" / "prefect"
    monkeypatch.setenv("XDG_STATE_HOME", str(user / "state"))
    assert default_home() == user / "state" / "nmcl" / "prefect"
    monkeypatch.setenv("PREFECT_HOME", str(user / "prefect"))
    assert default_home() == user / "prefect"
    monkeypatch.setenv("NMCL_HOME", str(user / "named"))
    assert default_home() == user / "named"


def test_a_server_of_an_earlier_version_is_found(user: Path) -> None:
    earlier = user / ".cache" / "nmcl" / "prefect"
    earlier.mkdir(parents=True)
    assert default_home() != earlier
    (earlier / "service").mkdir()
    (earlier / "service" / "running.json").write_text("{}")
    assert default_home() == earlier


def test_logs_of_earlier_processes_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    rotate(log)
    for number in range(KEPT_LOGS + 3):
        log.write_text(f"process {number}")
        rotate(log)
    kept = [(tmp_path / f"server.log.{number}").read_text() for number in range(1, KEPT_LOGS + 1)]
    assert kept == [f"process {KEPT_LOGS + 2 - number}" for number in range(KEPT_LOGS)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log", *(f"server.log.{n}" for n in range(1, 6))]


def test_a_large_log_is_rotated_under_a_process_that_writes(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    script = "import sys\nfor line in sys.stdin:\n    print(line.strip(), flush=True)"
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=file, text=True)
    assert process.stdin is not None
    process.stdin.write("before\n")
    process.stdin.flush()
    while not log.stat().st_size:
        assert process.poll() is None
    rotate(log, above_bytes=100)
    assert log.read_text() == "before\n"
    rotate(log, above_bytes=3)
    process.communicate("after\n")
    assert log.read_text() == "after\n"
    assert (tmp_path / "server.log.1").read_text() == "before\n"
