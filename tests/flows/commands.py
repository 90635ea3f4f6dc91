"""The command itself, as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

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
