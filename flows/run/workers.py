"""Distributes the parts of a crawl to workers, and starts local workers. Nothing here imports Prefect."""

import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from nmcl.extractors.threads import threads
from nmcl.flows.engine_settings import EngineSettings
from nmcl.flows.run.parts import MapItems, Work, WorkItem, limit_threads, run_sequentially
from nmcl.flows.run.worker import init_worker, interrupt, retried, until_interrupted
from nmcl.pipeline.errors import UnfinishedError
from nmcl.pipeline.processes import QUIET_TRACKER
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.text import listed

R = TypeVar("R")

MAX_DEATHS = 3
"""Number of worker deaths after which a part is abandoned."""
CHECKED_EVERY_S = 20.0


@dataclass(frozen=True)
class Job:
    """The work on one part, as a worker receives it. Picklable."""

    stage: str
    number: int
    """Number of the part within the stage."""
    engine: EngineSettings
    work: Work[Any]
    item: WorkItem

    def __call__(self) -> Any:
        limit_threads(self.engine)
        return self.work(self.item, until_interrupted)


class Future(Protocol):
    """The methods that futures of executors and of Prefect have in common."""

    def add_done_callback(self, function: Callable[[Any], None], /) -> None:
        """Call the function once the job is finished."""

    def result(self) -> Any:
        """Return what the job returned, or raise what it raised."""


Submit = Callable[[Job], Future]
"""Submits a job to one of the workers of a pool."""


class WorkerLost(Exception):
    """The process that worked on a job died."""


class Workers:
    """Workers that share one pool.

    Args:
        submit: Submits a job to the pool.
        lost: Exceptions that a future raises if the job's process died.
    """

    def __init__(self, submit: Submit, lost: tuple[type[BaseException], ...] = ()) -> None:
        self.submit = submit
        self._lost = lost

    def result(self, future: Any) -> Any:
        """Return the result of a finished job. Raises WorkerLost if its process died."""
        try:
            return future.result()
        except self._lost as error:
            raise WorkerLost from error

    def check(self) -> str:
        """Replace lost workers, if the engine does not. Called regularly while jobs are running.

        Returns:
            What the jobs are waiting for; empty if nothing.
        """
        return ""


class ProcessWorkers(Workers):
    """Worker processes in separate pools: if a process dies, its whole pool breaks and loses all its jobs."""

    def __init__(self, stack: ExitStack, start_process: Callable[[], AbstractContextManager[Submit]]) -> None:
        super().__init__(self._submit, (BrokenProcessPool,))
        self._stack = stack
        self._start_process = start_process
        self._idle: list[Submit] = []
        self._busy: dict[Future, Submit] = {}

    def _submit(self, job: Job) -> Future:
        process = self._idle.pop() if self._idle else self._stack.enter_context(self._start_process())
        future = process(job)
        self._busy[future] = process
        return future

    def result(self, future: Future) -> Any:
        process = self._busy.pop(future)
        result = super().result(future)
        self._idle.append(process)
        return result


@contextmanager
def local_process() -> Iterator[Submit]:
    """Start a worker process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, init_worker) as executor:
        yield lambda job: executor.submit(retried, job)


@contextmanager
def local_threads(n: int) -> Iterator[Submit]:
    """Start n worker threads."""
    with ThreadPoolExecutor(n) as executor:
        yield lambda job: executor.submit(retried, job)


@contextmanager
def on_this_machine(
    engine: EngineSettings,
    start_process: Callable[[], AbstractContextManager[Submit]] = local_process,
    start_threads: Callable[[int], AbstractContextManager[Submit]] = local_threads,
) -> Iterator[Workers]:
    """Start workers on this machine. If the block is interrupted, so are the parts they work on."""
    with ExitStack() as stack:
        try:
            if engine.kind.shares_process:
                yield Workers(stack.enter_context(start_threads(engine.workers)))
            else:
                yield ProcessWorkers(stack, start_process)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            interrupt()  # Ctrl-C, or the exception of Prefect's signal handler
            if not engine.kind.shares_process:  # else the children are decoders, which their pool ends
                for process in multiprocessing.active_children():  # a signal to the command alone does not reach them
                    if process.pid:
                        os.kill(process.pid, signal.SIGINT)
            raise


Start = Callable[[EngineSettings], AbstractContextManager[Workers]]


@contextmanager
def distributed(engine: EngineSettings, start: Start = on_this_machine) -> Iterator[MapItems]:
    """Yield a `MapItems` that distributes parts to an engine's workers.

    The workers are started when they are first needed, as that takes seconds, and stop at the end of the block.
    """
    for name, value in QUIET_TRACKER.items():
        os.environ.setdefault(name, value)
    with ExitStack() as stack:
        started: list[Workers] = []

        def map_items(name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress) -> list[R]:
            if not started:
                started.append(stack.enter_context(start(engine)))
            with threads(engine.threads_of_process):
                return _run(started[0], engine, name, work, items, progress)

        yield map_items


@contextmanager
def local_map(engine: EngineSettings) -> Iterator[MapItems]:
    """Yield a `MapItems` that uses this process if one worker is enough, else workers on this machine."""
    if engine.is_own_process:
        yield run_sequentially
    else:
        with distributed(engine) as map_items:
            yield map_items


def _run(
    workers: Workers, engine: EngineSettings, name: str, work: Work[R], items: Sequence[WorkItem], progress: Progress
) -> list[R]:
    """Run the parts, at most `engine.workers` at a time. Returns the results in the order of the items.

    A part whose worker died is given to another worker; after the second death, only while no other part is running.

    Raises:
        UnfinishedError: If some parts killed every worker they were given to. All others are finished.
    """
    n_done, n_videos = 0, sum(item.part.n_videos for item in items)
    waiting, deaths = deque(range(len(items))), Counter[int]()
    running: dict[int, Future] = {}
    ended: SimpleQueue[int] = SimpleQueue()
    results: dict[int, R] = {}

    def may_start(i: int) -> bool:
        suspects = any(deaths[j] > 1 for j in (i, *running))
        return not running or (len(running) < engine.workers and not suspects)

    while waiting or running:
        while waiting and may_start(waiting[0]):
            i = waiting.popleft()
            running[i] = workers.submit(Job(name, i, engine, work, items[i]))
            running[i].add_done_callback(partial(_put, ended, i))
        try:
            i = ended.get(timeout=CHECKED_EVERY_S)
        except Empty:
            if missing := workers.check():
                progress(name, n_done, n_videos, missing)
            continue
        try:
            results[i] = workers.result(running.pop(i))
            n_done += items[i].part.n_videos
        except WorkerLost:
            deaths[i] += 1
            if deaths[i] < MAX_DEATHS:
                waiting.append(i)
        progress(name, n_done, n_videos)
    _refuse_lost(name, [item for i, item in enumerate(items) if i not in results])
    return [results[i] for i in range(len(items))]


def _put(ended: SimpleQueue[int], i: int, _: object) -> None:
    ended.put(i)


def _refuse_lost(name: str, lost: Sequence[WorkItem]) -> None:
    if lost:
        parts = listed(f"{item.part.key} ({item.part.n_videos} videos of {item.folder})" for item in lost)
        raise UnfinishedError(
            f"{name}: {len(lost)} parts killed their worker process {MAX_DEATHS} times and were abandoned: {parts}. "
            "All other parts are finished; the same command retries these. Check that there is enough memory for this "
            "many workers."
        )
