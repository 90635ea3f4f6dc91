"""The artifacts that a run was made from, found by following the recipes back from the run to the extractors."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from nmcl.pipeline.storage.artifacts import (
    SETTINGS_IN_FULL,
    Artifact,
    digest,
    hashed_part,
    named_addresses,
    read_recipe,
)
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.storage.failures import Failures, load_failures
from nmcl.pipeline.storage.runs import Run, champion
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
    features = features_of(store, completion)
    return MadeFrom(completed, completion, features, states_of(store, features))


def features_of(store: Store, completion: Artifact) -> dict[str, Artifact]:
    """Return the feature sets that a completer was fitted on, by name."""
    addresses = named_addresses(completion.recipe["features"])
    return {name: stored_artifact(store, f"features/{name}-{address}") for name, address in addresses.items()}


def states_of(store: Store, features: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Return the states that feature sets were extracted with, by feature set; without those that have none."""
    addresses = {name: artifact.recipe["state"] for name, artifact in features.items()}
    return {name: stored_artifact(store, f"states/{name}-{address}") for name, address in addresses.items() if address}


def decoding_of(features: Mapping[str, Artifact]) -> Any:
    """Return what decided the frames and waveforms, as in the recipes of features; None if nothing was decoded."""
    decodings = (artifact.recipe.get("decoding") for artifact in features.values())
    return next((found for found in decodings if found is not None), None)


def failures_with(features: Mapping[str, Artifact]) -> Artifact | None:
    """Return the failures of the decoding that feature sets were extracted with; None if none of them is decoded."""
    decoding = decoding_of(features)
    return Artifact("failures/media", {"decoding": decoding}) if decoding is not None else None


@dataclass(frozen=True)
class RecordedFailures:
    """Failures of a store's videos, part by part."""

    store: Store
    files: Sequence[tuple[Artifact, Set[str]]]
    """Artifacts and their files, the preferred artifact first."""

    def of(self, part: Part) -> Failures | None:
        """Return the failures of a part by video_id; None if its files were not decoded yet."""
        found = next((artifact for artifact, names in self.files if f"part-{part.key}.parquet" in names), None)
        return load_failures(self.store, found, part) if found else None


def recorded_failures(store: Store, *decodings: Any) -> RecordedFailures:
    """Return the failures of some decodings: for each part those of the first that has it.

    Args:
        decodings: As in recipes, such as the address of the settings of `[media]`; None is left out.
    """
    artifacts = [Artifact("failures/media", {"decoding": decoding}) for decoding in decodings if decoding is not None]
    return RecordedFailures(store, [(artifact, set(store.list(artifact.folder))) for artifact in artifacts])


def decoding_of_champion(store: Store) -> Any:
    """Return what decided the frames and waveforms of the champion; None without a champion or decoded files."""
    best = champion(store)
    return decoding_of(made_from(best).features) if best else None


def completed_with(completion_address: str) -> Artifact:
    """Return the artifact of the vectors filled in by one completer."""
    return Artifact("completed/all", {"completion": completion_address})


def stored_artifact(store: Store, folder: str) -> Artifact:
    """Return the artifact in a folder, by its recipe. Raises StoreError if the recipe is missing or damaged."""
    recipe = read_recipe(store, folder)
    in_full = recipe.get(SETTINGS_IN_FULL, {})
    return Artifact(folder.rsplit("-", 1)[0], hashed_part(recipe), in_full if isinstance(in_full, Mapping) else {})


def texts_folder(recipe: Any) -> str:
    """Return the folder of the texts with this recipe."""
    source = recipe.get("source") if isinstance(recipe, Mapping) else None
    return f"texts/{source}-{digest(recipe)}"
