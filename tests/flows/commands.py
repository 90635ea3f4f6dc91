"""The command itself, as a process of its own or in this one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nmcl.flows.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
TRACE = "Traceback (most recent call last)"


def nmcl(
    *arguments: object, code: int = 0, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `nmcl` to its end. Checks its exit code, and that no trace is shown."""
    command = [sys.executable, "-c", "from nmcl.flows.cli.main import main; main()", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    assert TRACE not in done.stdout + done.stderr, done.stderr
    return done


def nmcl_here(
    *arguments: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str, str]:
    """The same without a process of its own, which takes seconds to import everything: status, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["nmcl", *map(str, arguments)])
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # `main` sets one that sends signals to the process
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    capsys.readouterr()
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0), *capsys.readouterr()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    return 0, *capsys.readouterr()
