"""Requests to the API of a Prefect server that is busy, refuses or is gone."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nmcl.flows.service.orphans import ask
from nmcl.flows.service.server import HOST, ServerError, free_port


class _Server(HTTPServer):
    """Responds with each of some statuses in turn, and with the request's body."""

    statuses: list[int]


class _Echo(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.server.statuses.pop(0))
        self.end_headers()
        self.wfile.write(body)

    do_PATCH = do_POST

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server((HOST, 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_busy_server_is_asked_again(server: _Server, method: str) -> None:
    server.statuses = [503, 503, 200]
    assert ask(f"http://{HOST}:{server.server_port}/api", {"active": True}, method) == {"active": True}
    assert server.statuses == []


def test_an_error_of_the_server_is_an_error_of_the_user(server: _Server) -> None:
    server.statuses = [409, 200]
    url = f"http://{HOST}:{server.server_port}/api"
    with pytest.raises(ServerError, match=rf"^The Prefect server responded to {url} with 409 Conflict\.$"):
        ask(url, {})
    assert server.statuses == [200]


def test_a_server_that_is_gone() -> None:
    with pytest.raises(ServerError, match=r"did not respond to http://127.0.0.1:\d+/api: .*refused"):
        ask(f"http://{HOST}:{free_port()}/api", {})
