"""The artifacts that a run was made from, found by following the recipes back from the run to the extractors."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nmcl.pipeline.storage.artifacts import (
    SETTINGS_IN_FULL,
    Artifact,
    digest,
    hashed_part,
    named_addresses,
    recipe_file,
)
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store


@dataclass(frozen=True)
class MadeFrom:
    """Artifacts that a run was made from."""

    completed: Artifact
    completion: Artifact
    """State of the completer."""
    features: Mapping[str, Artifact]
    """Vectors of each feature set."""
    states: Mapping[str, Artifact]
    """States of the fitted extractors, by feature set."""

    @property
    def texts(self) -> list[str]:
        """Folders of the texts that feature sets were made from."""
        recipes = (artifact.recipe.get("texts") for artifact in (*self.features.values(), *self.states.values()))
        return list(dict.fromkeys(texts_folder(recipe) for recipe in recipes if recipe))

    @property
    def decoding(self) -> Any:
        """What decided the frames and waveforms, as in the recipes of features; None if nothing was decoded."""
        decodings = (artifact.recipe.get("decoding") for artifact in self.features.values())
        return next((found for found in decodings if found is not None), None)

    def folders(self) -> Iterator[str]:
        """Yield the folder of every artifact."""
        for artifact in (self.completed, self.completion, *self.features.values(), *self.states.values()):
            yield artifact.folder
        yield from self.texts


def made_from(run: Run) -> MadeFrom:
    """Return the artifacts that a run was made from. They may have been removed, except for their recipes.

    Raises:
        StoreError: If a recipe is missing or damaged.
    """
    store = run.store
    completed = stored_artifact(store, f"completed/all-{run.recipe['completed']}")
    completion = stored_artifact(store, f"states/completion-{completed.recipe['completion']}")
    addresses = named_addresses(completion.recipe["features"])
    features = {name: stored_artifact(store, f"features/{name}-{address}") for name, address in addresses.items()}
    states = {
        name: stored_artifact(store, f"states/{name}-{artifact.recipe['state']}")
        for name, artifact in features.items()
        if artifact.recipe["state"]
    }
    return MadeFrom(completed, completion, features, states)


def stored_artifact(store: Store, folder: str) -> Artifact:
    """Return the artifact in a folder, by its recipe. Raises StoreError if the recipe is missing or damaged."""
    recipe = store.read_json(recipe_file(store, folder))
    in_full = recipe.get(SETTINGS_IN_FULL, {})
    return Artifact(folder.rsplit("-", 1)[0], hashed_part(recipe), in_full if isinstance(in_full, Mapping) else {})


def texts_folder(recipe: Any) -> str:
    """Return the folder of the texts with this recipe."""
    source = recipe.get("source") if isinstance(recipe, Mapping) else None
    return f"texts/{source}-{digest(recipe)}"
