"""Lineage of a run: the data and states it was made from, so that other runs can reuse them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmcl.extractors.earlier import earlier_address
from nmcl.flows import console
from nmcl.model.registry import with_current_names
from nmcl.pipeline.addressing import REMOVED
from nmcl.pipeline.errors import ModelError, StoreError
from nmcl.pipeline.extractor import Extractor
from nmcl.pipeline.records import Split
from nmcl.pipeline.storage.artifacts import (
    SETTINGS_IN_FULL,
    Artifact,
    digest,
    has_state,
    hashed_part,
    named_addresses,
    recipe_file,
)
from nmcl.pipeline.storage.catalogue import Catalogue
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import listed

CODE = ("code", "code_version", "autoencoder_version", "keyframes_version")
"""Keys of recipes that name versions of code; all others are settings, weights and inputs."""


@dataclass(frozen=True)
class FrozenStates:
    """The fitted states of a run, to extract and complete other videos in the same way."""

    run: str
    states: Mapping[str, Artifact]
    """States of the fitted extractors, by feature set."""
    features: Mapping[str, Artifact]
    """Vectors of each feature set."""
    completion: Artifact

    def check_all(self, extractors: Mapping[str, Extractor], made: Mapping[str, Artifact]) -> dict[str, Artifact]:
        """Return `check` of each feature set; raise ModelError unless they are those of the run."""
        if made.keys() != self.features.keys():
            raise ModelError(
                f"This model was trained on the feature sets {listed(self.features)}, and the settings name "
                f"{listed(made)}. Train a new model with `nmcl run`, and promote it with `nmcl promote`."
            )
        return {name: self.check(name, extractors[name], artifact) for name, artifact in made.items()}

    def check(self, name: str, extractor: Extractor, artifact: Artifact) -> Artifact:
        """Return the run's own artifact of one feature set, if the current settings give the same vectors.

        Newer code is accepted with a note: a few vectors may differ, but the run stays usable after an upgrade.
        Recipes of versions that hashed all settings are also accepted: the settings in them are compared.

        Args:
            artifact: The artifact according to the settings and the current code.

        Raises:
            ModelError: If the settings, weights or inputs would give other vectors.
        """
        own = self.features[name]
        if artifact.address == own.address:
            return own
        if is_earlier_form(own.recipe):
            recipe = earlier_form(extractor, artifact)
            if "code" in own.recipe and _is_known_to_agree(own.recipe, _plain(recipe)):
                return own
            is_same = _is_known_to_agree(without_code(own.recipe), without_code(recipe))
        else:
            is_same = without_code(own.recipe) == without_code(artifact.recipe)
        if not is_same:
            raise ModelError(
                f"The {name} vectors this model was trained on were extracted "
                f"with other settings, weights or limits than the current ones "
                f"(recipe {own.address}, now {artifact.address}). "
                f"Train a new model with `nmcl run`, and promote it with `nmcl promote`."
            )
        console.note_once(
            f"{self.run} was trained on vectors of an earlier version of the extraction code. It is used unchanged; "
            "vectors of new videos are extracted by the current code, and a few of them may differ. "
            "`nmcl run` trains a model with the current code."
        )
        return own

    @property
    def failures(self) -> Artifact | None:
        """The videos of the run that do not decode; None if no modality is decoded."""
        decodings = (artifact.recipe.get("decoding") for artifact in self.features.values())
        decoding = next((found for found in decodings if found is not None), None)
        return Artifact("failures/media", {"decoding": decoding}) if decoding is not None else None


def is_earlier_form(recipe: Mapping[str, Any]) -> bool:
    """Return whether a recipe of features or of a run was written by a version that hashed all settings."""
    return "code_version" not in recipe


def is_same_run(own: Mapping[str, Any], run: Artifact) -> bool:
    """Return whether a run would be trained on the same data in the same way as another, apart from initial weights.

    Args:
        own: The recipe of the other run, of any version.
    """
    before, now = ({name: value for name, value in r.items() if name != "start"} for r in (own, run.recipe))
    if not is_earlier_form(own):
        return digest(before) == digest(now)
    now["code"] = now.pop("code_version")
    now["model"] = run.settings["model"]
    if isinstance(model := before.get("model"), Mapping):
        before["model"] = with_current_names(model)
    return before.keys() == now.keys() and _is_known_to_agree(before, _plain(now))


def without_code(recipe: Any) -> Any:
    """Return a recipe, as JSON values, without its versions of code."""
    if isinstance(recipe, dict):
        return {name: without_code(value) for name, value in recipe.items() if name not in CODE}
    return _plain(recipe)


def earlier_form(extractor: Extractor, artifact: Artifact) -> dict[str, Any]:
    """Return the recipe of a feature artifact as written by versions that hashed all settings."""
    recipe = {**artifact.recipe, "extractor": earlier_address(extractor)}
    recipe["code"] = recipe.pop("code_version")
    if "decoding" in recipe:
        media = artifact.settings["media"]
        limits = ("max_seconds", "max_pixels", "budget_megapixels")
        recipe["decoding"] = {"code": recipe["decoding"]["code_version"], **{name: media[name] for name in limits}}
    return recipe


def _is_known_to_agree(own: object, now: object) -> bool:
    """Return whether everything in an earlier recipe still holds; settings that it does not know are ignored."""
    if isinstance(own, dict) and isinstance(now, dict):
        return all(_is_known_to_agree(own[name], now.get(name, REMOVED.get(name, ...))) for name in own)
    return own == now


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


@dataclass(frozen=True)
class Lineage:
    """A run's data and states."""

    catalogue: Catalogue
    """The crawls it was trained on, as they were at that time."""
    splits: Mapping[str, Split]
    """Splits of the labelled videos by content hash."""
    frozen: FrozenStates


def lineage_of(run: Run) -> Lineage:
    """Return the data and states that a run was made from.

    Raises:
        StoreError: If its folder is missing or incomplete, or was written by an earlier version, which stored less.
    """
    if run.splits is None or not run.catalogue.crawls:
        raise StoreError(
            f"{run.store.url}/{run.folder} does not record which videos it was trained on: an earlier version wrote "
            f"it, or files are missing. Repeat the `nmcl run` that created it, or promote another run: `nmcl runs`."
        )
    return Lineage(run.catalogue, run.splits, frozen_of(run))


def frozen_of(run: Run) -> FrozenStates:
    """Return the states of a run, by following the recipes back to the extractors.

    Raises:
        StoreError: If a state or a recipe is missing.
    """
    store = run.store
    completion_address = stored_artifact(store, "completed/all", run.recipe["completed"]).recipe["completion"]
    completion = stored_artifact(store, "states/completion", completion_address)
    addresses = named_addresses(completion.recipe["features"])
    features = {name: stored_artifact(store, f"features/{name}", address) for name, address in addresses.items()}
    states = {
        n: stored_artifact(store, f"states/{n}", f.recipe["state"]) for n, f in features.items() if f.recipe["state"]
    }
    for artifact in (completion, *states.values()):
        if not has_state(store, artifact):
            raise StoreError(
                f"{store.url}/{artifact.folder} is missing: the states of {run.folder} cannot be used again."
            )
    return FrozenStates(run.folder, states, features, completion)


def stored_artifact(store: Store, kind: str, address: str) -> Artifact:
    """Return an artifact of a store with its recipe; raise StoreError if that is missing."""
    recipe = store.read_json(recipe_file(store, f"{kind}-{address}"))
    return Artifact(kind, hashed_part(recipe), recipe.get(SETTINGS_IN_FULL, {}))
