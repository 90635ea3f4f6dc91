"""What all tests share: real media made on the spot, and the shared crawls where they are at hand."""

import faulthandler
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.forms import LONG

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Jobs in a shell's background ignore SIGINT, and so would all commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real crawls and media beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("the shared crawls are not beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def sample_crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered sample crawl."""
    from nmcl.pipeline.crawl.sample import make_sample

    folder = tmp_path_factory.mktemp("sample") / "crawl"
    make_sample(folder)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    if LONG and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config))


class _Failures:
    """Prints each failure at once: the end may be an hour away."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal: pytest.TerminalReporter = self._config.pluginmanager.getplugin("terminalreporter")
            terminal.ensure_newline()
            terminal.write_line(f"{report.nodeid} failed:\n{report.longreprtext}")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Call a test that is marked so in a new process: it changes its process, or forks it with all that is loaded."""
    if pyfuncitem.get_closest_marker("own_process") is None or "NMCL_OWN_PROCESS" in os.environ:
        return None
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid],
        cwd=pyfuncitem.config.rootpath,
        env={**os.environ, "NMCL_OWN_PROCESS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return True


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):  # its stderr is captured and lost
        faulthandler.enable(_trace_of(os.getpid()).open("w"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        _trace_of(os.getpid()).unlink(missing_ok=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a process of the tests died, and where: xdist does not."""
    if error:
        process = node.gateway._io.popen
        code, trace = process.wait(10), _trace_of(process.pid)
        print(f"\n{node.gateway.id} ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}")
        print(trace.read_text())
        trace.unlink()


def _trace_of(pid: int) -> Path:
    return Path(tempfile.gettempdir(), f"nmcl-tests-{pid}.trace")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the faults that tests brought about and noted as the property `fault`."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    noted = Counter(
        str(value)
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == "fault"
    )
    if noted:
        terminalreporter.section(f"{sum(noted.values())} faults")
        for fault, n in sorted(noted.items()):
            terminalreporter.write_line(f"{n:5} {fault}")
