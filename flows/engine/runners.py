"""Prefect's task runners as workers.

Import this only with `PREFECT_API_URL` set, or within `nmcl.flows.service.server.embedded`: Prefect reads it on import.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pkgutil import resolve_name
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from nmcl.flows.engine.tasks import in_this_process, numbered_task
from nmcl.flows.engine_settings import EngineSettings
from nmcl.flows.run import workers
from nmcl.flows.run.parts import MapItems
from nmcl.flows.run.worker import init_worker
from nmcl.flows.run.workers import Future, Job, Submit, Workers


@contextmanager
def map_by(engine: EngineSettings) -> Iterator[MapItems]:
    """Yield a `MapItems` that runs every part as a task run, in this process or on the engine's workers."""
    if engine.is_own_process:
        yield in_this_process
    else:
        with workers.distributed(engine, resolve_name(engine.kind.start)) as map_items:
            yield map_items


def submit_to(runner: TaskRunner[Any]) -> Submit:
    """Return a function that submits a job to a task runner, as a task run."""

    def submit(job: Job) -> Future:
        task = numbered_task.with_options(name=job.stage)
        future: Future = runner.submit(task, {"stage": job.stage, "number": job.number, "work": job})
        return future

    return submit


def on_this_machine(engine: EngineSettings) -> AbstractContextManager[Workers]:
    """Start processes or threads on this machine."""
    return workers.on_this_machine(engine, _process, _threads)


@contextmanager
def _process() -> Iterator[Submit]:
    with ProcessPoolTaskRunner(max_workers=1, initializer=init_worker) as runner:
        yield submit_to(runner)


@contextmanager
def _threads(n: int) -> Iterator[Submit]:
    runner: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=n)
    with runner:
        yield submit_to(runner)
