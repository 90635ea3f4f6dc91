"""Partial results of a study as artifacts of a store, so that an interrupted study can resume."""

from collections.abc import Callable
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from nmcl.model import checkpoint
from nmcl.model.base import CODE_VERSION
from nmcl.model.study.results import CompleterScores
from nmcl.model.study.trials import Outcome
from nmcl.pipeline.errors import ModelError, StoreError
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
