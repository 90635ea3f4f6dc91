"""Parallel runner for the work items of a study.

Their findings are artifacts of a store, so that a resumed study skips finished items.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from pydantic import TypeAdapter, ValidationError

from nmcl.model import checkpoint
from nmcl.model.base import CODE_VERSION
from nmcl.model.study.results import CompleterScores
from nmcl.model.study.trials import Outcome
from nmcl.pipeline.errors import ModelError, StoreError, WorkerError
from nmcl.pipeline.processes import end_after_parent
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State
from nmcl.pipeline.storage.artifacts import Artifact, has_state, load_state, save_state
from nmcl.pipeline.storage.store import Store

Finding = Outcome | CompleterScores | float | None
"""Result of a work item; a float is a validation score, None a training that diverged."""
_SCORES: TypeAdapter[CompleterScores | float | None] = TypeAdapter(CompleterScores | float | None)
_BRANCH = "per_modality/"
_COUNTS = ("method", "seed", "seconds", "n_parameters")
"""Fields of an outcome that are JSON values."""


class Item(Protocol):
    """Protocol of a work item."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that determines the finding, as JSON values."""


R = TypeVar("R", bound=Finding)
T = TypeVar("T", bound=Item)

MAX_SHARED_BYTES = 1 << 30
"""Size above which a table is processed by one process with all threads, as each further one would hold a copy."""


@dataclass(frozen=True)
class Runner:
    """Runs work items, in parallel if there are several jobs."""

    jobs: int = 1
    """Number of parallel jobs; if several, each has its own process with one thread."""
    progress: Progress = silent
    store: Store | None = None
    """Store that findings are saved to and loaded from."""

    def side_by_side(self, stage: str, work: Callable[[T], R], items: Sequence[T], name: Callable[[T], str]) -> list[R]:
        """Run `work` on all items and return the results in their order; stored findings are reused.

        Raises:
            WorkerError: one of the processes was killed.
        """
        found: dict[int, Any] = {i: known for i, item in enumerate(items) for known in self._known(work, item)}
        missing = [i for i in range(len(items)) if i not in found]
        self.progress(stage, len(found), len(items), "")
        for i, result in zip(missing, self._done(stage, work, [items[i] for i in missing]), strict=True):
            found[i] = result
            if self.store:
                save_finding(self.store, artifact_of(work, items[i]), result)
            self.progress(stage, len(found), len(items), name(items[i]))
        return [found[i] for i in range(len(items))]

    def _known(self, work: Callable[[T], R], item: T) -> tuple[Any, ...]:
        return load_finding(self.store, artifact_of(work, item)) if self.store else ()

    def _done(self, stage: str, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        if self.jobs == 1:
            yield from map(work, items)
            return
        with parallel_config(backend="loky", inner_max_num_threads=1):
            todo = (delayed(_in_a_child)(os.getpid(), work, item) for item in items)
            try:
                yield from Parallel(n_jobs=self.jobs, return_as="generator")(todo)
            except TerminatedWorkerError as error:
                raise WorkerError(
                    f"{stage}: one of {self.jobs} processes was killed, most likely for want of memory. "
                    "Run again, with --jobs 1 if it happens again."
                ) from error


def _in_a_child(parent: int, work: Callable[[T], R], item: T) -> R:
    if os.getpid() != parent:  # joblib works in the command's own process where it cannot start others
        end_after_parent(parent)
        torch.set_num_threads(1)
    return work(item)


def default_jobs(n_bytes: int) -> int:
    """Return the default number of jobs: one per core, but only one with a GPU or large features."""
    if torch.cuda.is_available() or n_bytes > MAX_SHARED_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def artifact_of(work: Callable[..., Finding], item: Item) -> Artifact:
    """Return the artifact of a work item; its address is the hash of the recipe."""
    return Artifact(work.__name__, {"code_version": CODE_VERSION, **item.recipe})


def save_finding(store: Store, artifact: Artifact, found: Finding) -> None:
    """Write a finding. The state is written last: if it exists, the finding is complete.

    Raises:
        StoreError: the finding cannot be written.
    """
    if not isinstance(found, Outcome):
        save_state(store, artifact, State(info={"scores": _SCORES.dump_python(found, mode="json")}))
        return
    if found.trained:
        with store.folder_to_write(f"{artifact.folder}/model") as folder:
            checkpoint.save(found.trained, folder)
    branches = {_BRANCH + name: probability for name, probability in found.per_modality.items()}
    arrays = {"label": found.label, "probability": found.probability, **branches}
    save_state(store, artifact, State(arrays, {"outcome": {name: getattr(found, name) for name in _COUNTS}}))


def load_finding(store: Store, artifact: Artifact) -> tuple[Finding, ...]:
    """Return the finding as a tuple of one, or an empty tuple if it was not written or is damaged."""
    if not has_state(store, artifact):
        return ()
    try:
        state = load_state(store, artifact)
        if "outcome" not in state.info:
            return (_SCORES.validate_python(state.info["scores"]),)
        trained = None
        if store.exists(f"{artifact.folder}/model/{checkpoint.CARD}"):
            with store.folder_to_read(f"{artifact.folder}/model") as folder:
                trained = checkpoint.load(folder)
        branches = {n.removeprefix(_BRANCH): array for n, array in state.arrays.items() if n.startswith(_BRANCH)}
        label, probability = state.arrays["label"], state.arrays["probability"]
        return (
            Outcome(
                **state.info["outcome"], label=label, probability=probability, per_modality=branches, trained=trained
            ),
        )
    except (StoreError, ModelError, ValidationError, KeyError, TypeError):
        return ()
