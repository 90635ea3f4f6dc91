"""Single-writer lock for a store without file locks: a lease object that its holder renews while it works.

A process that finds a lease watches it. A lease that is renewed belongs to a live writer. One that is not renewed for
PATIENCE_S belongs to a killed writer, and is taken over. Clocks of different machines are never compared. Taking over
is a conditional write (`If-Match`) if the service supports it, as S3 does, so that only one of two commands succeeds.
On other services, two commands that start within a second after a crash may both continue. That repeats work but
changes no vector, because files are named by the hash of their recipe.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from nmcl.pipeline.errors import StoreError, StoreTakenError
from nmcl.pipeline.os_errors import writing

RENEWED_EVERY_S = 3.0
PATIENCE_S = 15.0
_NOT_MET = ("PreconditionFailed", "ConditionalRequestConflict")


@dataclass(frozen=True)
class Found:
    """Lease as it was read."""

    version: str
    """Version that changes with every renewal."""
    token: str
    """Token of its holder."""
    holder: str
    """Host and process, for people."""


class Lease:
    """Lease object at one path of an fsspec file system."""

    def __init__(self, fs: Any, path: str, url: str) -> None:
        self._fs = fs
        self._path = path
        self._url = url
        self._token = uuid.uuid4().hex
        self._renewals = 0
        self._version = ""
        self.is_lost = False
        """Whether another writer took over the lease because it was not renewed in time."""

    @contextmanager
    def held(self) -> Iterator["Lease"]:
        """Hold the lease within the block.

        Raises:
            StoreTakenError: If another writer holds it.
            StoreError: If it cannot be written.
        """
        with writing(self._url):
            self._take()
        stop = threading.Event()
        renewing = threading.Thread(target=self._renew_until, args=(stop,), daemon=True)
        renewing.start()
        try:
            yield self
        finally:
            stop.set()
            renewing.join()
            if not self.is_lost:
                with suppress(StoreError), writing(self._url):  # an unremoved lease is not renewed, and is taken over
                    self._fs.rm_file(self._path)

    def _take(self) -> None:
        end = None
        seen: Found | None = None
        while not self._write({"mode": "create"}):
            found = self._read()
            if found is None:
                continue  # it was released in the meantime
            if seen is not None and found.version != seen.version:
                raise StoreTakenError(
                    f"Another nmcl command ({found.holder}) is writing to {self._url}. "
                    "Wait until it finishes, or use another --out."
                )
            if seen is None:
                seen, end = found, time.monotonic() + PATIENCE_S
            elif end is not None and time.monotonic() > end:
                if self._write(self._replacing(found.version)):
                    return
                seen = None
            time.sleep(min(1.0, RENEWED_EVERY_S))

    def _renew_until(self, stop: threading.Event) -> None:
        renewed = time.monotonic()
        while not stop.wait(RENEWED_EVERY_S):
            try:
                with writing(self._url):
                    is_ours = self._write(self._replacing(self._version))
                if not is_ours:
                    self.is_lost = True
                    return
                renewed = time.monotonic()
            except StoreError:  # the service may recover before another writer takes over
                self.is_lost = time.monotonic() - renewed > PATIENCE_S

    def _replacing(self, version: str) -> dict[str, Any]:
        """Return the condition that the object is unchanged, if the service supports it."""
        return {"IfMatch": version} if "s3" in self._fs.protocol else {}

    def _write(self, condition: dict[str, Any]) -> bool:
        """Write the lease and return whether we now hold it."""
        self._renewals += 1
        holder = f"{socket.gethostname()}, process {os.getpid()}"
        content = {"token": self._token, "renewals": self._renewals, "holder": holder}
        try:
            self._fs.pipe_file(self._path, json.dumps(content).encode(), **condition)
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) in _NOT_MET:
                return False
            raise
        found = self._read()
        if found is None or found.token != self._token:
            return False
        self._version = found.version
        return True

    def _read(self) -> Found | None:
        try:
            version = str(self._fs.info(self._path).get("ETag", ""))
            content = self._fs.cat_file(self._path)
        except FileNotFoundError:
            return None
        try:
            found = json.loads(content)
            return Found(version or str(found["renewals"]), str(found["token"]), str(found["holder"]))
        except (ValueError, KeyError, TypeError, RecursionError):  # a damaged lease is never renewed
            return Found(version or content.hex(), "", "an unknown process")


def _code(error: OSError) -> str:
    """Return S3's error code."""
    response: dict[str, Any] = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
