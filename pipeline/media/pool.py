"""Pool of decoding processes that may be killed at any time without affecting other files."""

import os
import pickle
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

from nmcl.pipeline.errors import ClipError, ExtractorError, WorkerError
from nmcl.pipeline.media.decode import Request, decode
from nmcl.pipeline.media.failures import out_of_memory
from nmcl.pipeline.media.limits import AHEAD, MediaSettings
from nmcl.pipeline.needs import Stream
from nmcl.pipeline.processes import die_with_parent, without_main
from nmcl.pipeline.records import Content

Outcome = Content | ClipError
_Result = bytes | ClipError
"""Pickled outcome as sent by a process, or the failure of the process. The reader unpickles it."""
_Job = tuple[Request, "Future[_Result]"]

TRIES = 3
"""Maximum attempts for a file whose process ends; retries run without any other file in parallel."""

STARTS = 20
"""Consecutive processes that may end before they are ready; more mean a permanent fault."""

START_S = 120.0
"""Timeout for a process to become ready; then it is replaced."""

_READY, _TAKEN, _REFUSED = b"ready", b"taken", b"refused "
_OUT_OF_MEMORY_STATUS = 3


class Decoder:
    """Pool of decoding processes.

    Use as a context manager; `contents` may be called any number of times, also from several threads.
    """

    def __init__(self, settings: MediaSettings) -> None:
        self.settings = settings
        self.workers = settings.workers or os.cpu_count() or 1

    def __enter__(self) -> "Decoder":
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = threading.Event()
        self._turn = _Turn()
        self._workers = [_Worker(self._jobs, self._turn, self.settings) for _ in range(self.workers)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        for worker in self._workers:
            worker.stop()
        for _ in self._workers:
            self._jobs.put(None)
        for worker in self._workers:
            worker.join()
        with suppress(Empty):  # other threads may still wait for files that nobody will decode
            while True:
                if job := self._jobs.get_nowait():
                    job[1].cancel()

    def contents(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Decode files in parallel; yield results in the order of the requests, at most `AHEAD` ahead of the reader.

        Raises:
            WorkerError: If no decoding process can be started.
        """
        ahead: deque[Future[_Result]] = deque()
        try:
            for request in requests:
                future: Future[_Result] = Future()
                ahead.append(future)
                self._jobs.put((request, future))
                if self._closed.is_set():
                    future.cancel()
                if len(ahead) > max(AHEAD, 4 * self.workers):
                    yield _outcome(ahead.popleft())
            while ahead:
                yield _outcome(ahead.popleft())
        finally:
            for future in ahead:
                future.cancel()


class _Turn:
    """Lock that lets files be decoded in parallel, but a file that killed its process only alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_beside = 0
        self._is_alone = False

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._is_alone)
            self._n_beside += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_beside -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._is_alone)
            self._is_alone = True
            self._condition.wait_for(lambda: not self._n_beside)
        try:
            yield
        finally:
            with self._condition:
                self._is_alone = False
                self._condition.notify_all()


class _Died(Exception):
    """The process ended while it worked on a file."""


class _Late(Exception):
    """The process timed out and was killed."""


class _Worker(threading.Thread):
    """Runs one process: replaces it when it ends, and retries its file."""

    def __init__(self, jobs: "SimpleQueue[_Job | None]", turn: _Turn, settings: MediaSettings) -> None:
        super().__init__(name="decoder", daemon=True)
        self._jobs = jobs
        self._turn = turn
        self._settings = settings
        self._child: _Child | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop the work; called from another thread."""
        self._stopped.set()
        if child := self._child:
            child.kill()

    def run(self) -> None:
        while (job := self._jobs.get()) is not None:
            request, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._outcome(request))
            except Exception as error:  # noqa: BLE001 (raised again where the result is awaited)
                future.set_exception(error)
        if self._child:
            self._child.kill()

    def _outcome(self, request: Request) -> _Result:
        """Return the outcome of a file; of its sound and picture separately if both together crash or time out."""
        outcome = self._tried(request)
        if isinstance(outcome, bytes):
            return outcome
        if not (request.frames and request.sounds):
            return outcome
        sound = self._tried(replace(request, needs=request.sounds))
        if isinstance(sound, bytes):
            return _with_problem(sound, "frames", outcome)
        picture = self._tried(replace(request, needs=request.frames))
        return _with_problem(picture, "waveform", sound) if isinstance(picture, bytes) else picture

    def _tried(self, request: Request) -> _Result:
        try:
            with self._turn.beside_others():
                return self._decoded(request)
        except _Late:
            return self._too_late()
        except _Died:
            pass
        for _ in range(TRIES - 1):
            with self._turn.alone():
                try:
                    return self._decoded(request)
                except _Late:
                    return self._too_late()
                except _Died as error:
                    died = str(error)
        return ClipError("crashed", f"its decoding process ended {TRIES} times ({died})")

    def _too_late(self) -> ClipError:
        return ClipError("timeout", f"not decoded within {self._settings.timeout_s:g} s")

    def _decoded(self, request: Request) -> bytes:
        """Return the pickled outcome; raise _Died, _Late or WorkerError."""
        for _ in range(STARTS):
            child = self._ready_child()
            if child.took(request):
                break
            self._child = None
        else:
            raise _no_processes(child.end)
        try:
            return child.outcome(self._settings.timeout_s)
        except (_Died, _Late):
            self._child = None
            raise

    def _ready_child(self) -> "_Child":
        if self._child:
            return self._child
        for _ in range(STARTS):
            if self._stopped.is_set():
                raise WorkerError("The decoder was closed.")
            try:
                child = self._child = _Child(self._settings)
            except OSError as error:  # no memory for another process, or it was killed before it began
                end = error.strerror or "killed"
            else:
                if self._stopped.is_set():
                    child.kill()
                if child.is_ready():
                    return child
                end = child.end
            self._child = None
            time.sleep(0.1)
        raise _no_processes(end)


def _outcome(future: "Future[_Result]") -> Outcome:
    try:
        return _unpickled(future.result())
    except CancelledError as error:
        raise WorkerError("The decoder was closed.") from error


def _unpickled(result: _Result) -> Outcome:
    outcome: Outcome = pickle.loads(result) if isinstance(result, bytes) else result
    return outcome


def _with_problem(result: bytes, stream: Stream, problem: ClipError) -> bytes:
    outcome = _unpickled(result)
    if isinstance(outcome, Content):
        outcome = replace(outcome, problems={stream: problem, **outcome.problems})
    return pickle.dumps(outcome)


def _no_processes(end: str) -> WorkerError:
    return WorkerError(
        f"{STARTS} decoding processes in a row ended before they accepted a file (the last one: {end}). "
        "Check that there is enough memory, and run the command again."
    )


class _Child:
    """One process with a pipe of its own."""

    def __init__(self, settings: MediaSettings) -> None:
        context = get_context("spawn")  # a fork of a process with running threads may hang
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_decode_all, args=(theirs, settings, os.getpid()), daemon=True)
        with without_main():
            self._process.start()
        theirs.close()

    def is_ready(self) -> bool:
        """Wait until the process can be used; return False if it ended before."""
        return self._said(START_S) == _READY or self._gone()

    def took(self, request: Request) -> bool:
        """Send a file; return False if the process ended before it began.

        Raises:
            ExtractorError: If the process cannot import what selects or preprocesses the frames.
        """
        try:
            self._pipe.send(request)
        except OSError:
            return self._gone()
        said = self._said(START_S)
        if said and said.startswith(_REFUSED):
            raise ExtractorError(
                "A decoding process cannot import what an extractor needs: "
                f"{said.removeprefix(_REFUSED).decode()}. Define selectors and preprocessing in an importable module."
            )
        return said == _TAKEN or self._gone()

    def outcome(self, timeout_s: float) -> bytes:
        """Return the pickled outcome of the file; raise _Died or _Late."""
        said = self._said(timeout_s)
        if said:
            return said
        is_late = self._process.is_alive() and said is None
        self._gone()
        raise _Late if is_late else _Died(self.end)

    @property
    def end(self) -> str:
        """Exit reason of the process."""
        code = self._process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"status {code}"

    def kill(self) -> None:
        """Kill the process immediately."""
        self._process.kill()

    def _said(self, timeout_s: float) -> bytes | None:
        """Return the next message; None on timeout, empty if the process ended."""
        try:
            return self._pipe.recv_bytes() if self._pipe.poll(timeout_s) else None
        except (EOFError, OSError):
            return b""

    def _gone(self) -> bool:
        self._process.kill()
        self._process.join()
        self._pipe.close()
        return False


def _decode_all(pipe: Connection, settings: MediaSettings, parent: int) -> None:
    """Run the main loop of a decoding process."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    if os.getppid() != parent:
        return
    _limit_threads()
    pipe.send_bytes(_READY)
    is_fresh = True
    with suppress(EOFError, OSError):
        while True:
            data = pipe.recv_bytes()
            try:
                request = pickle.loads(data)
            except Exception as error:  # noqa: BLE001 (raised where the file was to be decoded)
                if is_fresh:  # else a module may lack memory: a fresh process imports it before its limit
                    pipe.send_bytes(_REFUSED + f"{type(error).__name__}: {error}".encode())
                return
            if is_fresh:
                _limit(settings.memory_mb)
            pipe.send_bytes(_TAKEN)
            outcome = decode(request, settings)
            if not is_fresh and _ran_out(outcome, settings):
                os._exit(_OUT_OF_MEMORY_STATUS)  # earlier files may have used the memory: retried alone
            pipe.send_bytes(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))
            is_fresh = False


def _ran_out(outcome: Outcome, settings: MediaSettings) -> bool:
    failures = [outcome] if isinstance(outcome, ClipError) else outcome.problems.values()
    return any(failure.detail == out_of_memory(settings.memory_mb).detail for failure in failures)


def _limit_threads() -> None:
    """Set one thread per decoder and no logs: many small files are decoded in parallel."""
    import av
    import cv2

    av.logging.set_level(av.logging.PANIC)
    cv2.setNumThreads(1)


def _limit(memory_mb: int) -> None:
    """Limit the memory, beside what the interpreter and its modules have mapped."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = mapped + memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
