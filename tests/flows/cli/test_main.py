"""How a command ends: by a sentence and a code, whatever happens."""

import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from nmcl.flows.cli import summary
from nmcl.pipeline.errors import UserError
from tests.flows.commands import nmcl_here
from tests.model.conftest import world

ARCHIVE = Path(__file__).parents[2] / "data" / "store-28a06ff.tar.xz"
NMCL = [sys.executable, "-c", "from nmcl.flows.cli.main import main; main()"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return next(path.parent for path in tmp_path.rglob("store.json"))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("x\x1b[31m"), 1, r"error: ValueError: x\x1b[31m. This is a bug in nmcl: run again with --debug"),
        (UserError("found [/]\x1b"), 2, "error: found [/]\\x1b\n"),
        (OSError(errno.ENOSPC, "No space", "/data/x"), 2, "error: No space is left for /data/x."),
        (OSError(errno.EDQUOT, "quota", "/data/x"), 2, "error: The disk quota is too small for /data/x."),
        (OSError(errno.EFBIG, "big", "/data/x"), 2, "error: /data/x exceeds the maximum file size"),
        (OSError(errno.EIO, "io", "/data/x"), 2, "error: /data/x cannot be written: the disk reports"),
        (OSError(errno.EROFS, "ro", "/data/x"), 2, "its file system is read-only."),
        (MemoryError(), 2, "error: Out of memory."),
    ],
)
def test_every_error_is_one_sentence(
    error: Exception,
    code: int,
    said: str,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(summary, "of_runs", fail)
    monkeypatch.delenv("NMCL_DEBUG", raising=False)
    runs = partial(nmcl_here, "runs", "--out", store, capsys=capsys, monkeypatch=monkeypatch)
    found, _, text = runs()
    assert (found, text.count("\n")) == (code, 1)
    assert said in text
    monkeypatch.setenv("NMCL_DEBUG", "1")
    assert "Traceback" in runs()[2]


INTERRUPTED = """
import os, signal, sys, time
from nmcl.flows.cli.main import main
from nmcl.pipeline.storage import runs

number = int(sys.argv.pop())
runs.rollback = lambda *_: (os.kill(os.getpid(), number), time.sleep(60))
sys.argv = ["nmcl", "rollback", "--out", sys.argv.pop()]
signal.signal(signal.SIGHUP, signal.SIG_DFL)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_orderly(number: signal.Signals, store: Path) -> None:
    """In a process of its own: a signal that comes late would end the test's."""
    words = [sys.executable, "-c", INTERRUPTED, str(store), str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number
    assert done.stderr.count("\n") == 1
    assert "Finished work is kept" in done.stderr
    assert not (store / ".tmp").exists()


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_may_have_enough(store: Path, options: list[str]) -> None:
    command = subprocess.Popen(
        [*NMCL, "runs", "--out", str(store), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout
    command.stdout.close()
    _, said = command.communicate()
    assert (command.returncode, said) == (0, b"")


def test_any_terminal_can_show_any_name(store: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([*NMCL, "runs", "--out", str(store)], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def study(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`nmcl reproduce` with two workers at work."""
    rows = world(2000, seed=0)
    np.savez(tmp_path / "f.npz", **rows.modalities, label=np.array(list("abcd"))[rows.label])
    command = [*NMCL, "reproduce", "--features", str(tmp_path / "f.npz"), "--out", str(tmp_path / "out"), "--jobs", "2"]
    process = subprocess.Popen([*command, "--seeds", "50", "--methods", "nmcl"], stderr=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.services
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_of_a_study_outlives_it(number: signal.Signals, study: subprocess.Popen[bytes]) -> None:
    main = psutil.Process(study.pid)
    until(lambda: sum(child.cpu_times().user > 4 for child in main.children(recursive=True)) >= 2)
    family = main.children(recursive=True)
    os.kill(study.pid, number)
    said = study.communicate()[1].decode()
    assert study.returncode == (143 if number == signal.SIGTERM else -9)
    assert "Traceback" not in said
    assert number == signal.SIGKILL or "Ended by SIGTERM" in said.splitlines()[-1]
    until(lambda: not alive(family))


def test_json_holds_no_control(store: Path) -> None:
    note = json.loads((store / "champions.json").read_text())
    note["history"][-1]["why"] = "\x1b[31m\x9b\u202e"
    (store / "champions.json").write_text(json.dumps(note))
    for options in ([], ["--json"]):
        done = subprocess.run([*NMCL, "runs", "--out", str(store), *options], capture_output=True, check=True)
        assert not {"\x1b", "\x9b", "\u202e"} & set(done.stdout.decode())


LATE = """
import os, signal, sys, time
from nmcl.flows.cli import main as cli

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup

class Late:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.01)

def app():
    try:
        Late()
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)

cli.app = app
cli.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_within_a_destructor_is_not_lost(number: signal.Signals, code: int) -> None:
    """Python ignores exceptions there."""
    command = [sys.executable, "-c", LATE, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == code, done.stderr
    assert done.stderr.endswith("Finished work is kept; run the same command to resume.\n")
    assert "Traceback" not in done.stderr
