"""Checks of one part of an artifact: its digest, its rows and its vectors."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import (
    Artifact,
    digest,
    digest_file,
    modality_of,
    named_addresses,
    read_recipe,
    recipe_file,
)
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.storage.failures import Failures, load_failures
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import completed_names, decode, read_table, to_terms, to_vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

COLUMNS = {
    "features": ("video_id", "vector"),
    "texts": ("video_id", "text"),
    "completed": ("video_id",),
    "thumbnails": ("video_id", "images", "times_s"),
    "failures": ("video_id", "path", "kind", "detail"),
}


def wrong_part(
    store: Store,
    folder: str,
    name: str,
    recipe: Mapping[str, Any],
    videos: Sequence[Video] | None,
    decodings: Mapping[str, str],
    dims: set[int],
) -> str | None:
    """Return what is wrong with one part, or None.

    Args:
        store, folder, name: Location of the file.
        recipe: The hashed part of its artifact's recipe.
        videos: Videos of the catalogue's part, if the catalogue has it.
        decodings: Folders of failures, by the digest of the decoding they belong to.
        dims: Widths of the vectors in the artifact's parts so far; that of this part is added.
    """
    kind = folder.split("/")[0]
    try:
        data = store.read(f"{folder}/{name}")
        if problem := wrong_digest(store, f"{folder}/{name}", data):
            return problem
        table = decode(data, name)
        if lacking := [column for column in COLUMNS[kind] if column not in table.column_names]:
            return f"its column {lacking[0]} is missing"
        ids = table.column("video_id").to_pylist()
        if videos is not None and (problem := _wrong_rows(kind, ids, [v.video_id for v in videos])):
            return problem
        if kind == "features":
            return _wrong_vectors(store, folder, name, recipe, table, decodings, dims)
        return _wrong_completed(store, name, recipe, table) if kind == "completed" else None
    except (StoreError, pa.ArrowException, ValueError, TypeError, AttributeError, KeyError) as error:
        return f"it cannot be read ({error})"


def wrong_digest(store: Store, name: str, data: bytes) -> str | None:
    """Return how a file contradicts its digest, or None. Files of earlier versions have no digest."""
    file = digest_file(store, name)
    if not store.exists(file):
        return None
    wanted = store.read(file).decode(errors="replace").split(" ", 1)[0]
    found = hashlib.sha256(data).hexdigest()
    return (
        None if found == wanted else f"its SHA-256 is {found[:12]}..., expected {wanted[:12]}... as recorded in {file}"
    )


def _wrong_rows(kind: str, found: Sequence[str], wanted: Sequence[str]) -> str | None:
    if kind == "failures":
        unknown = set(found) - set(wanted)
        return f"it lists {len(unknown):,} videos that are not in the catalogue's part" if unknown else None
    if list(found) != list(wanted):
        return f"its {len(found):,} rows are not the {len(wanted):,} videos of the catalogue's part"
    return None


def _wrong_vectors(
    store: Store,
    folder: str,
    name: str,
    recipe: Mapping[str, Any],
    table: pa.Table,
    decodings: Mapping[str, str],
    dims: set[int],
) -> str | None:
    vectors = to_vectors(table.column("vector"))
    dims.add(vectors.shape[1])
    if len(dims) > 1:
        return f"its vectors have {vectors.shape[1]} values, those of other parts {min(dims - {vectors.shape[1]})}"
    absent = np.isnan(vectors).any(axis=1)
    to_terms(table, name)
    if not np.isfinite(vectors[~absent]).all():
        return "it contains infinite values"
    failures = _failures_beside(store, name, recipe, decodings)
    if failures is None:
        return None
    modality = modality_of(store, folder)
    of_rows = [
        [f for f in failures.get(video_id, ()) if f.modality in (None, modality)]
        for video_id in table.column("video_id").to_pylist()
    ]
    lasting = np.array([any(not f.is_transient for f in found) for found in of_rows], bool)
    if (lasting & ~absent).any():  # during a retry, a vector may exist before its failure is removed
        return f"{int((lasting & ~absent).sum()):,} of its videos have both a vector and a recorded permanent failure"
    explained = np.array([bool(found) for found in of_rows], bool)
    if "remark" in table.column_names:
        explained |= np.array([remark is not None for remark in table.column("remark").to_pylist()], bool)
    if (absent & ~explained).any() and not absent.all():
        return f"{int((absent & ~explained).sum()):,} of its vectors are absent without a recorded reason"
    return None


def _failures_beside(
    store: Store, name: str, recipe: Mapping[str, Any], decodings: Mapping[str, str]
) -> Failures | None:
    """Return the failures that belong to a part of features; None if none were recorded for it."""
    folder = decodings.get(digest(recipe["decoding"])) if "decoding" in recipe else None
    if folder is None or not store.exists(f"{folder}/{name}"):
        return None
    artifact = Artifact(folder.rsplit("-", 1)[0], {"decoding": recipe["decoding"]})
    return load_failures(store, artifact, Part(name.removeprefix("part-").removesuffix(".parquet"), "", 0))


def _wrong_completed(store: Store, name: str, recipe: Mapping[str, Any], table: pa.Table) -> str | None:
    """Return what is wrong with completed vectors, or None.

    Observed flags must match the extracted vectors, and only videos without any modality may lack vectors.
    """
    names = completed_names(table)
    any_observed = np.any([table.column(f"{m}_observed").to_numpy() for m in names], axis=0)
    for modality in names:
        observed = table.column(f"{modality}_observed").to_numpy()
        vectors = to_vectors(table.column(modality))
        if (np.isnan(vectors).any(axis=1) == any_observed).any() or not np.isfinite(vectors[any_observed]).all():
            return f"its {modality} vectors are incomplete"
        completion = f"states/completion-{recipe['completion']}"
        if not store.exists(recipe_file(store, completion)):
            continue
        addresses = named_addresses(read_recipe(store, completion)["features"])
        features = f"features/{modality}-{addresses[modality]}/{name}"
        if not store.exists(features):
            continue
        own = read_table(store, features)
        extracted = to_vectors(own.column("vector"))
        present = ~np.isnan(extracted).any(axis=1)
        if not np.array_equal(present, observed) or not np.array_equal(extracted[present], vectors[present]):
            return f"its {modality} vectors differ from the extracted ones"
        if not _same_terms(to_terms(table, name, modality), to_terms(own, features)):
            return f"its {modality} term weights differ from the extracted ones"
    return None


def _same_terms(one: "csr_array | None", other: "csr_array | None") -> bool:
    if one is None or other is None:
        return one is other
    return bool(one.shape == other.shape and (one != other).nnz == 0)
