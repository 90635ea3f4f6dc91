"""What a run was made from, so that others can be made from the same: noted beside it when it is trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from extractors.base import Extractor
from flows import console
from pipeline.artifacts import Artifact, has_state
from pipeline.catalogue import Catalogue, load_catalogue, save_catalogue
from pipeline.errors import ModelError, StoreError
from pipeline.records import MODALITIES, SPLITS, Modality, Split
from pipeline.store import Store
from pipeline.tables import decode, encode

CODE = ("code", "code_version", "autoencoder_version")
"""Keys of recipes that name versions of code; all others are settings, weights and inputs."""


@dataclass(frozen=True)
class FrozenStates:
    """The states of a run, to extract and complete other videos just as its own."""

    run: str
    states: Mapping[Modality, Artifact]
    """Of the extractors that learn."""
    features: Mapping[Modality, Artifact]
    """Each modality's vectors."""
    completion: Artifact

    def check(self, extractor: Extractor, artifact: Artifact) -> Artifact:
        """The run's own artifact of one modality's vectors, if these settings make the same.

        Newer code is accepted with a note: a few vectors may differ, but nobody is locked out of a run by an upgrade.

        Args:
            artifact: as the settings and the present code have it.

        Raises:
            ModelError: other settings, weights or inputs would make other vectors.
        """
        modality = extractor.modality
        own = self.features[modality]
        if artifact.address == own.address:
            return own
        if not _is_newer_code(own.recipe, json.loads(json.dumps(artifact.recipe))):
            raise ModelError(
                f"The {modality} vectors this model was trained on were made in another way than they would be made "
                f"now (recipe {own.address}, now {artifact.address}): other settings, weights or limits. "
                f"Train a new model with `nmcl run`, and `nmcl promote` it if you like it better."
            )
        console.note_once(
            f"{self.run} was trained on vectors of an earlier version of the extraction code. It is used as it is; "
            "vectors of new videos are made by the present code, and a few of them may differ. "
            "`nmcl run` trains a model with the present code."
        )
        return own

    @property
    def failures(self) -> Artifact | None:
        """The videos of the run that do not decode; None where no modality is decoded."""
        decodings = (artifact.recipe.get("decoding") for artifact in self.features.values())
        decoding = next((found for found in decodings if found is not None), None)
        return Artifact("failures/media", {"decoding": decoding}) if decoding is not None else None


def _is_newer_code(own: object, now: object) -> bool:
    """Whether two recipes differ only in versions of code, and in settings that the earlier one did not know."""
    if isinstance(own, dict) and isinstance(now, dict):
        return all(key in now and _is_newer_code(own[key], now[key]) for key in own if key not in CODE)
    return own == now


@dataclass(frozen=True)
class Lineage:
    """A run's data and states."""

    catalogue: Catalogue
    """The crawls it was trained on, as they were."""
    splits: Mapping[str, Split]
    """By content hash, of the labelled videos."""
    frozen: FrozenStates


def note(store: Store, run: str, catalogue: Catalogue, splits: Mapping[str, Split]) -> None:
    """Write down what a run's recipe does not tell."""
    if not store.exists(_splits_file(run)):
        names = sorted(splits)
        columns = {"sha256": pa.array(names, pa.string()), "split": pa.array([splits[n] for n in names], pa.string())}
        store.write(_splits_file(run), encode(pa.table(columns)))
    save_catalogue(store, catalogue, _catalogue_file(run))


def lineage_of(store: Store, run: str) -> Lineage:
    """Where a run comes from.

    Raises:
        StoreError: its folder is gone or incomplete, or it was made by an earlier version, which noted less.
    """
    name = _splits_file(run)
    if not (store.exists(name) and store.exists(_catalogue_file(run))):
        raise StoreError(
            f"{store.url}/{run} does not tell which videos it was trained on: an earlier version made it, or files "
            f"are missing. Run the `nmcl run` that made it again, or promote another run: `nmcl runs`."
        )
    table = decode(store.read(name), name)
    splits = dict(zip(table.column("sha256").to_pylist(), table.column("split").to_pylist(), strict=True))
    if unknown := sorted(set(splits.values()) - set(SPLITS)):
        raise store.damaged(name, f"the split {unknown[0]!r}")
    return Lineage(load_catalogue(store, _catalogue_file(run)), splits, frozen_of(store, run))


def frozen_of(store: Store, run: str) -> FrozenStates:
    """The states of a run, by following the recipes back to the extractors.

    Raises:
        StoreError: a state or a recipe is missing.
    """
    completed = store.read_json(f"{run}/recipe.json")["completed"]
    completion = _known(store, "states/completion", store.read_json(f"completed/all-{completed}/recipe.json"))
    addresses: Mapping[Modality, str] = dict(zip(MODALITIES, completion.recipe["features"], strict=True))
    features = {
        m: Artifact(f"features/{m}", store.read_json(f"features/{m}-{address}/recipe.json"))
        for m, address in addresses.items()
    }
    states = {m: _known(store, f"states/{m}", f.recipe, "state") for m, f in features.items() if f.recipe["state"]}
    for artifact in (completion, *states.values()):
        if not has_state(store, artifact):
            raise StoreError(f"{store.url}/{artifact.folder} is missing: what {run} learnt cannot be used again.")
    return FrozenStates(run, states, features, completion)


def _known(store: Store, kind: str, recipe: Mapping[str, str], name: str = "completion") -> Artifact:
    return Artifact(kind, store.read_json(f"{kind}-{recipe[name]}/recipe.json"))


def _splits_file(run: str) -> str:
    return f"{run}/splits.parquet"


def _catalogue_file(run: str) -> str:
    return f"{run}/catalogue.json"
