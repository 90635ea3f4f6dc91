"""Content addresses: an artifact is named by the hash of its recipe, which gives caching, resuming and provenance."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import MODALITIES, Modality, State
from nmcl.pipeline.storage.store import Store


def digest(value: Any, length: int = 12) -> str:
    """Return the hash of a JSON value; equal values give equal digests, whatever the order of their keys.

    Args:
        length: Hex digits kept; with 12, a random collision among a million artifacts has a chance of about 1 in 500.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


RECIPE = "recipe.json"
"""File in the folder of an artifact that describes how it was made."""
SETTINGS_IN_FULL = "settings_in_full"
"""Key of the recipe that is not hashed. Recipes of earlier versions lack it and are hashed completely."""


def hashed_part(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a recipe that is hashed."""
    return {name: value for name, value in recipe.items() if name != SETTINGS_IN_FULL}


@dataclass(frozen=True)
class Artifact:
    """Pipeline artifact and its recipe: settings, code version, weights' checksum, input artifacts."""

    kind: str
    """Folder and name, such as `features/visual`."""
    recipe: dict[str, Any]
    """JSON values that decide the content. Of settings, those that `nmcl.pipeline.addressing.hashed` returns."""
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """All settings in force, by section: for people, and not part of the address."""

    @property
    def address(self) -> str:
        """Address of 12 hex digits."""
        return digest(self.recipe)

    @property
    def folder(self) -> str:
        """Folder in the store."""
        return f"{self.kind}-{self.address}"

    def part(self, key: str) -> str:
        """Return the name of the file of one part."""
        return f"{self.folder}/part-{key}.parquet"

    def note_recipe(self, store: Store) -> None:
        """Write the recipe next to the artifact, with all settings in force, for people and for provenance."""
        name = f"{self.folder}/{RECIPE}"
        if not store.exists(name):
            in_full = {SETTINGS_IN_FULL: self.settings} if self.settings else {}
            store.write_json(name, {**self.recipe, **in_full})


DIGEST_SUFFIX = ".sha256"


def write_with_digest(store: Store, name: str, data: bytes) -> None:
    """Write a file with its SHA-256 in a file next to it, in the format of `sha256sum --check`.

    A digest never contradicts its file, even if the process is killed: for a new file it is written first, and that of
    a replaced file is removed before.
    """
    line = f"{hashlib.sha256(data).hexdigest()}  {name.rsplit('/', 1)[-1]}\n".encode()
    if store.exists(name):
        store.remove(name + DIGEST_SUFFIX)
        store.write(name, data)
        store.write(name + DIGEST_SUFFIX, line)
    else:
        store.write(name + DIGEST_SUFFIX, line)
        store.write(name, data)


def add_digest(store: Store, name: str) -> None:
    """Write the digest of a file without one: of an earlier version, or of a process that was killed after the file."""
    if not store.exists(name + DIGEST_SUFFIX):
        line = f"{hashlib.sha256(store.read(name)).hexdigest()}  {name.rsplit('/', 1)[-1]}\n"
        store.write(name + DIGEST_SUFFIX, line.encode())


def save_state(store: Store, artifact: Artifact, state: State) -> None:
    """Write a state. `state.json` is written last: if it exists, the state is complete."""
    artifact.note_recipe(store)
    write_with_digest(store, f"{artifact.folder}/state.safetensors", save(state.arrays))
    store.write_json(f"{artifact.folder}/state.json", state.info)


def has_state(store: Store, artifact: Artifact) -> bool:
    """Return whether the state was written."""
    return store.exists(f"{artifact.folder}/state.json")


def load_state(store: Store, artifact: Artifact | None) -> State:
    """Load a state, array for array; an empty one for an extractor without training, which has no artifact.

    Raises:
        StoreError: If it is missing or damaged.
    """
    if artifact is None:
        return State()
    name = f"{artifact.folder}/state.safetensors"
    data = store.read(name)
    try:
        arrays = load(data)
        for array, values in arrays.items():
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise ValueError(f"{array!r} has values that are not finite")
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise StoreError(f"{name} is damaged ({error}). Delete {artifact.folder} and run the command again.") from error
    return State(arrays=arrays, info=store.read_json(f"{artifact.folder}/state.json"))


def named_addresses(features: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of feature sets in a recipe by name; without names they are the paper's three."""
    return dict(features) if isinstance(features, Mapping) else dict(zip(MODALITIES, features, strict=True))


def addresses_of(features: Mapping[str, Artifact]) -> list[str] | dict[str, str]:
    """Return the addresses of feature sets as a recipe holds them; the inverse of `named_addresses`."""
    if features.keys() == set(MODALITIES):
        return [features[name].address for name in MODALITIES]
    return {name: artifact.address for name, artifact in features.items()}


def modality_of(store: Store, folder: str) -> Modality:
    """Return the modality of a feature set, given the folder of its artifact; earlier versions named sets by it."""
    name = folder.removeprefix("features/").rsplit("-", 1)[0]
    recipe = store.read_json(f"{folder}/{RECIPE}") if store.exists(f"{folder}/{RECIPE}") else {}
    modality: Modality = recipe.get(SETTINGS_IN_FULL, {}).get("features", {}).get(name, {}).get("modality", name)
    return modality
