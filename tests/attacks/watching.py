"""Who opens what: commands under strace, a canary that nobody may read and a listener that nobody may call."""

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.world import NMCL, environment
from tests.media import shades, tone, write_video

CALLS = "open,openat,openat2,connect,sendto,sendmsg,execve"
SECRET = "canary-6f1d0c0e"
"""Is written in every file outside the crawl that an attack names."""
DOCUMENTED = range(7)
"""Exit codes but 1, which is a bug of ours; see the README."""


@dataclass
class Trap:
    """What attacks reach for."""

    folder: Path
    """Outside of every crawl: `secret.txt`, `secret.mp4`, and `seen-by-exec` if code of an attack was run."""
    port: int
    """Of a listener on 127.0.0.1, TCP and UDP."""
    calls: list[str] = field(default_factory=list)
    """Who called the listener."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ran(self) -> Path:
        """The file that code of an attack would make."""
        return self.folder / "seen-by-exec"

    def check(self, *places: Path) -> None:
        """Nothing of the canary is in any file below some folders, no code ran, nobody called."""
        assert self.calls == []
        assert not self.ran.exists()
        for place in places:
            for path in [place, *place.rglob("*")]:
                if path.is_file() and not path.is_symlink():
                    assert SECRET.encode() not in path.read_bytes(), path


@contextmanager
def trap(folder: Path) -> Iterator[Trap]:
    """Files outside the crawl, and a listener."""
    folder.mkdir()
    (folder / "secret.txt").write_text(f"{SECRET}\n" * 50)
    write_video(folder / "secret.mp4", shades([250, 5], 4), sound=tone(900, 1.0))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        found = Trap(folder, tcp.getsockname()[1])
        udp.bind(("127.0.0.1", found.port))
        end = threading.Event()
        tcp.settimeout(0.2)
        udp.settimeout(0.2)

        def listen(listener: socket.socket) -> None:
            while not end.is_set():
                try:
                    if listener is tcp:
                        caller, address = tcp.accept()
                        caller.close()
                    else:
                        _, address = udp.recvfrom(9)
                except TimeoutError:
                    continue
                found.calls.append(str(address))

        threads = [threading.Thread(target=listen, args=(listener,)) for listener in (tcp, udp)]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            end.set()
            for thread in threads:
                thread.join()


@dataclass(frozen=True)
class Traced:
    """A command that has ended."""

    code: int
    said: str
    opened: list[str]
    """Real paths of all files that any of its processes opened."""
    called: list[str]
    """Addresses of the Internet families that any of them connected or sent to, as strace writes them."""
    executed: list[str]
    """Programs."""


def traced(words: list[str], home: Path, limit_s: float = 400) -> Traced:
    """Run a command and follow it and its children; skips the test where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    log = home / f"strace-{time.monotonic_ns()}"
    env = environment(home)
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log)]
    if subprocess.run([*strace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    done = subprocess.run(
        [*strace, NMCL, *words],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit_s,
        check=False,
    )
    lines = log.read_text(errors="replace").splitlines()
    opened = [found[1] for line in lines if "open" in line and (found := re.search(r" = \d+<(.*)>$", line))]
    called = [line for line in lines if re.search(r"(connect|sendto|sendmsg)\(.*AF_INET", line)]
    executed = [found[1] for line in lines if (found := re.search(r' execve\("([^"]*)".* = 0$', line))]
    return Traced(done.returncode, done.stdout.decode(errors="replace"), opened, called, executed)
