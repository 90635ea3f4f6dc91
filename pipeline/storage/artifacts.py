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
from nmcl.pipeline.storage.store import Store, json_bytes


def digest(value: Any, length: int = 12) -> str:
    """Return the hash of a JSON value; equal values give equal digests, whatever the order of their keys.

    Args:
        length: Hex digits kept; with 12, a random collision among a million artifacts has a chance of about 1 in 500.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


RECIPE = "recipe.json"
"""File that describes how an artifact was made."""
DIGEST_SUFFIX = ".sha256"
TABLES = ("texts", "features", "completed", "failures", "thumbnails")
"""Kinds of artifacts whose folders hold nothing but Parquet files, so that other programs read a folder as a table."""
METADATA = "metadata"
"""Folder with the recipes and digests of these kinds, under the same names. Earlier versions wrote them beside the
parts, and such stores stay as they are."""
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
        """Write the recipe, with all settings in force, for people and for provenance."""
        name = recipe_file(store, self.folder)
        if not store.exists(name):
            in_full = {SETTINGS_IN_FULL: self.settings} if self.settings else {}
            store.write_json(name, {**self.recipe, **in_full})


def _metadata(name: str) -> str:
    """Return where the recipe or digest of this name is written."""
    return f"{METADATA}/{name}" if name.split("/")[0] in TABLES else name


def recipe_file(store: Store, folder: str) -> str:
    """Return the name of the file with the recipe of an artifact: where it is, or else where it is written."""
    name, earlier = _metadata(f"{folder}/{RECIPE}"), f"{folder}/{RECIPE}"
    return earlier if not store.exists(name) and store.exists(earlier) else name


def read_recipe(store: Store, folder: str) -> dict[str, Any]:
    """Return the recipe of an artifact or a run, with all settings in force where it records them.

    Raises:
        StoreError: If it is missing or damaged, or does not match the hash in the name of its folder.
    """
    name = recipe_file(store, folder)
    recipe: dict[str, Any] = store.read_json(name)
    if problem := wrong_recipe(folder, recipe):
        raise StoreError(
            f"{store.where(name)} is damaged: {problem}. `nmcl verify --repair` removes it with what it describes; "
            "then repeat the command that created it."
        )
    return recipe


def wrong_recipe(folder: str, recipe: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the recipe of an artifact or a run, or None."""
    address = folder.rsplit("-", 1)[-1]
    is_right = digest(hashed_part(recipe)) == address
    return None if is_right else f"it does not match the hash {address} in the name of its folder"


def digest_file(store: Store, name: str) -> str:
    """Return the name of the file with the digest of another: where it is, or else where it is written.

    One beside the file comes first: only an earlier version can have written it after the other.
    """
    beside = name + DIGEST_SUFFIX
    return beside if store.exists(beside) else _metadata(beside)


def digest_files(name: str) -> tuple[str, ...]:
    """Return all names that the digest of a file may have."""
    return tuple({_metadata(name + DIGEST_SUFFIX): None, name + DIGEST_SUFFIX: None})


def has_digests(store: Store, folder: str) -> bool:
    """Return whether an artifact is of a version that wrote the digest of every file; stores of others lack some."""
    file = recipe_file(store, folder)
    return file.startswith(METADATA) or (store.exists(file) and SETTINGS_IN_FULL in store.read_json(file))


def files_of(store: Store, folder: str) -> set[str]:
    """Return the names of an artifact's files, with those of its recipe and its digests, without their folders."""
    return {*store.list(folder), *store.list(_metadata(folder))}


def write_with_digest(store: Store, name: str, data: bytes) -> None:
    """Write a file and its SHA-256, in the format of `sha256sum --check`.

    A digest never contradicts its file, even if the process is killed: for a new file it is written first, and that of
    a replaced file is removed before.
    """
    for file in digest_files(name):
        store.remove(file)
    if store.exists(name):
        store.write(name, data)
        _write_digest(store, name, data)
    else:
        _write_digest(store, name, data)
        store.write(name, data)


def add_digest(store: Store, name: str) -> None:
    """Write the digest of a file without one: of an earlier version, or of a process that was killed after the file."""
    if not store.exists(digest_file(store, name)):
        _write_digest(store, name, store.read(name))


def _write_digest(store: Store, name: str, data: bytes) -> None:
    """Write a digest with the name of its file: relative to the store in `METADATA`, else to the file's folder."""
    file = _metadata(name + DIGEST_SUFFIX)
    shown = name if file.startswith(METADATA) else name.rsplit("/", 1)[-1]
    store.write(file, f"{hashlib.sha256(data).hexdigest()}  {shown}\n".encode())


def save_state(store: Store, artifact: Artifact, state: State) -> None:
    """Write a state. `state.json` is written last: if it exists, the state is complete."""
    artifact.note_recipe(store)
    write_with_digest(store, f"{artifact.folder}/state.safetensors", save(state.arrays))
    write_with_digest(store, f"{artifact.folder}/state.json", json_bytes(state.info))


def has_state(store: Store, artifact: Artifact) -> bool:
    """Return whether the state was written."""
    return store.exists(f"{artifact.folder}/state.json")


def state_info(store: Store, artifact: Artifact) -> Any:
    """Return the JSON of a state without its arrays."""
    return store.read_json(f"{artifact.folder}/state.json")


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
    return State(arrays=arrays, info=state_info(store, artifact))


def named_addresses(features: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return the addresses of feature sets in a recipe by name; without names they are the paper's three."""
    return dict(features) if isinstance(features, Mapping) else dict(zip(MODALITIES, features, strict=True))


def addresses_of(features: Mapping[str, Artifact]) -> list[str] | dict[str, str]:
    """Return the addresses of feature sets as a recipe holds them; the inverse of `named_addresses`."""
    if features.keys() == set(MODALITIES):
        return [features[name].address for name in MODALITIES]
    return {name: artifact.address for name, artifact in features.items()}


def dimensions_of(recipe: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of a feature set's dimensions, such as the classes of a tagger; empty if they have none."""
    names: Sequence[str] = recipe.get("extractor", {}).get("dimensions", ())
    return names


def modality_of(store: Store, folder: str) -> Modality:
    """Return the modality of a feature set, given the folder of its artifact; earlier versions named sets by it."""
    name = folder.removeprefix("features/").rsplit("-", 1)[0]
    found: Any = read_recipe(store, folder) if store.exists(recipe_file(store, folder)) else {}
    for key in (SETTINGS_IN_FULL, "features", name, "modality"):
        found = found.get(key) if isinstance(found, dict) else None
    modality: Any = found if found in MODALITIES else name
    return modality  # type: ignore[no-any-return]
