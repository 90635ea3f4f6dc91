"""`nmcl doctor` on this machine, and on ones that are really broken."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nmcl.flows.run import doctor
from nmcl.flows.service.server import HOST
from nmcl.pipeline.media.check import CHECKED
from tests.flows.commands import ROOT, TRACE, nmcl

MOUNTS = 'mount -t tmpfs -o size=64k tmpfs "$0" && mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && '


def test_this_machine_can_run_it() -> None:
    done = nmcl("doctor", "--json", PREFECT_HOME="/nonexistent")
    rows = {(row["area"], row["name"]): row for row in json.loads(done.stdout)}
    assert done.stdout.isascii()
    assert {row["state"] for row in rows.values()} <= {"ok", "warning"}
    assert all(rows["media", codecs.name]["found"] == "decoded" for codecs in CHECKED)
    assert f"{len(os.sched_getaffinity(0))} core" in rows["machine", "processor"]["found"]
    assert rows["weights", "efficientnet_lite0"]["found"] == "here"
    assert "torch" in rows["versions", "libraries"]["found"]
    assert all(row["what_to_do"] for row in rows.values() if row["state"] != "ok")


def test_what_is_broken_is_named(tmp_path: Path) -> None:
    """An ffmpeg that does not run, a full temporary folder, a working folder that is read-only, and a taken port."""
    full, locked, program = tmp_path / "full", tmp_path / "locked", tmp_path / "ffmpeg"
    full.mkdir()
    locked.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    apart = ["unshare", "--mount", "sh", "-c", f'{MOUNTS}cd "$0/../locked" && exec "$@"', str(full), str(locked)]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("needs the right to mount")
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "TMPDIR": str(full),
            "IMAGEIO_FFMPEG_EXE": str(program),
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_HOME": str(tmp_path / "prefect"),
        }
        command = [sys.executable, "-c", "from nmcl.flows.cli.main import main; main()", "doctor", "--json"]
        done = subprocess.run([*apart, *command], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, TRACE in done.stderr) == (6, False), done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for name, found, advice in (
        ("ffmpeg program", "it ended with 3", "IMAGEIO_FFMPEG_EXE"),
        ("temporary folder", "No space left on device", "Set TMPDIR"),
        ("working folder", "Read-only file system", "--out"),
    ):
        assert rows[name]["state"] == "problem"
        assert found in rows[name]["found"]
        assert advice in rows[name]["what_to_do"]
    assert rows[str(port)]["state"] == "warning"
    assert "in use" in rows[str(port)]["found"]


def test_an_unsupported_version_is_named() -> None:
    [old] = doctor._misfits([Requirement("numpy<1"), Requirement("rich>=1")])
    assert (old.name, old.state, old.what_to_do) == ("numpy", "problem", "pip install 'numpy<1'")
    [absent] = doctor._misfits([Requirement("nmcl-no-such-package>=2")])
    assert absent.found == "not installed; expected >=2"


def test_little_room_is_rated() -> None:
    states = [doctor._rated(n, 10, 20, "free", "do")[0] for n in (9, 10, 19, 20)]
    assert states == ["problem", "warning", "warning", "ok"]
