"""The notification of docs/operations.md: a real server, a real run that fails, and a webhook of this machine."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.services
FAILING = "from nmcl.flows.engine.flows import retrain\nretrain(crawl='no/such/crawl')"


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a webhook, and what it was sent."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/hook", received
    server.shutdown()
    server.server_close()


def test_a_failed_run_calls_a_webhook(
    webhook: tuple[str, list[bytes]], environment: dict[str, str], tmp_path: Path
) -> None:
    address, received = webhook
    documented = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    (script,) = [code for code in documented if "CallWebhook" in code]
    made = subprocess.run(
        [sys.executable, "-c", script, address], env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    end = time.monotonic() + 300
    while not received:  # the server reads a new automation after a while
        assert time.monotonic() < end
        failed = subprocess.run(
            [sys.executable, "-c", FAILING], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert failed.returncode == 1
        wait = time.monotonic() + 20
        while not received and time.monotonic() < wait:
            time.sleep(0.2)
    text = json.loads(received[0])["text"]
    assert text.startswith("retrain: crawl: ")
    assert "There is no folder no/such/crawl" in text
