"""The lease of a store without file locks, on a file system of fsspec's own."""

import threading
import uuid

import fsspec
import pytest

from nmcl.pipeline.errors import StoreTakenError
from nmcl.pipeline.storage import lease
from nmcl.pipeline.storage.lease import Lease


@pytest.fixture
def path() -> str:
    return f"/{uuid.uuid4().hex}/.lock"


def test_a_store_that_is_taken_is_said_to_be(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows wait for the end of another command; of any other error they do not."""
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.1)
    fs = fsspec.filesystem("memory")
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with Lease(fs, path, "memory:/").held():
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(60)
        with pytest.raises(StoreTakenError, match="is writing to memory"), Lease(fs, path, "memory:/").held():
            pass
    finally:
        let_go.set()
        holder.join()


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b'{"token": 1}', b"[" * 100_000])
def test_a_lease_of_another_shape_is_taken_over(path: str, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PATIENCE_S", 0.2)
    monkeypatch.setattr(lease, "RENEWED_EVERY_S", 0.1)
    fs = fsspec.filesystem("memory")
    fs.pipe_file(path, content)
    with Lease(fs, path, "memory:/").held():
        assert fs.cat_file(path) != content
    assert not fs.exists(path)
