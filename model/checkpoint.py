"""Checkpoints of trained models: `model.safetensors` for arrays, `model.json` for the rest. Loading runs no code.

`model.json` holds the digest of the weights, so files of two different saves are never loaded as one model.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import safetensors
import torch
from annotated_types import Ge, Le, Len
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as encode_tensors
from torch import Tensor

from nmcl.model.base import Classifier, Epoch, Shape
from nmcl.model.data import Standardizer
from nmcl.model.nmcl.nmcl import NMCL
from nmcl.model.registry import method, with_current_names
from nmcl.model.trained import Trained
from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.storage.files import write_whole

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT = 1
MAX_CARD_BYTES = 64 << 20
MAX_DIM = 1 << 24
HELD_OUT = "held_out"
"""Name of the array of the validation rows' probabilities."""
_RENAMED = {
    "network.members.0.": "network.nmcl.",
    "network.peers.": "network.stacking.",
    ".sharpness": ".inverse_temperature",
    "_opinion.": "_classifier.",
}
"""Parts of the names of arrays in files of earlier versions."""
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@with_config(_STRICT)
@dataclasses.dataclass(frozen=True)
class Card:
    """The content of `model.json`."""

    format: Literal[1]
    name: str
    settings: dict[str, Any]
    classes: Annotated[tuple[str, ...], Len(2), Field(alias="venues")]
    dims: Annotated[dict[str, Annotated[int, Ge(1), Le(MAX_DIM)]], Len(1)]
    """D_m by modality, in sorted order of names."""
    seed: int
    history: tuple[Epoch, ...]
    diagnostics: dict[str, Any]
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    n_terms: dict[str, Annotated[int, Ge(1), Le(MAX_DIM)]] = dataclasses.field(default_factory=dict)
    """T_m by feature set with sparse terms, in sorted order; models of earlier versions have none."""


def save(trained: Trained, folder: Path) -> None:
    """Write both files, each atomically; equal models give equal bytes.

    Raises:
        StoreError: the folder cannot be written.
    """
    weights = encode_tensors(_tensors(trained))
    card = {
        "format": FORMAT,
        "name": trained.name,
        "settings": dataclasses.asdict(trained.settings),
        "venues": trained.classes,
        "dims": trained.dims,
        "seed": trained.seed,
        "history": [dataclasses.asdict(epoch) for epoch in trained.history],
        "diagnostics": trained.diagnostics,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "n_terms": trained.n_terms,
    }
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / CARD, json.dumps(card, indent=1, allow_nan=False).encode())


def load(folder: Path) -> Trained:
    """Load a model that `save` wrote; predictions are bit-identical.

    Raises:
        ModelError: a file is missing, damaged, too large, not of this format, or does not fit the other.
    """
    card = _read_card(folder / CARD)
    weights = _read(folder / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS} is damaged or of another model than {CARD}; copy both files again")
    try:
        tensors = parse_tensors(weights)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{folder / WEIGHTS} is no safetensors file: {error}; train again") from error
    settings = _settings(card)
    with torch.device("meta"):  # allocate no memory before the shapes are checked
        network = method(card.name).build(Shape(card.dims, card.classes, card.n_terms), settings)
    tensors = {_current_name(name, network): value for name, value in tensors.items()}
    held_out = tensors.pop(HELD_OUT, None)
    _fit_sizes(network, tensors, folder / WEIGHTS)
    _check_tensors(tensors, _expected(network, card.dims), folder / WEIGHTS)
    network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()}, assign=True)
    network.eval()
    standardizer = Standardizer(
        {name: tensors[f"mean.{i}"].numpy() for i, name in enumerate(card.dims)},
        {name: tensors[f"scale.{i}"].numpy() for i, name in enumerate(card.dims)},
    )
    return Trained(
        card.name,
        settings,
        card.classes,
        card.seed,
        standardizer,
        network,
        card.history,
        card.diagnostics,
        card.n_terms,
        None if held_out is None else _checked_held_out(held_out, card, folder / WEIGHTS),
    )


def _tensors(trained: Trained) -> dict[str, Tensor]:
    """Return all arrays of a model by their names in the file; modalities by position, as they may have any name."""
    state = trained.network.state_dict()
    tensors = {f"network.{name}": value.cpu().contiguous() for name, value in state.items()}
    for i, name in enumerate(trained.dims):
        tensors[f"mean.{i}"] = torch.from_numpy(np.ascontiguousarray(trained.standardizer.mean[name]))
        tensors[f"scale.{i}"] = torch.from_numpy(np.ascontiguousarray(trained.standardizer.scale[name]))
    if trained.held_out is not None:
        tensors[HELD_OUT] = torch.from_numpy(np.ascontiguousarray(trained.held_out))
    return tensors


def _fit_sizes(network: Classifier, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give the buffers whose first dimension depends on the training rows the length that they have in the file.

    Raises:
        ModelError: Lengths of one module do not fit each other.
    """
    for place, module in network.named_modules():
        lengths: dict[str, int] = {}
        for name, size in module.free_sizes.items() if isinstance(module, Classifier) else ():
            found = tensors.get(f"network.{place}.{name}" if place else f"network.{name}")
            if found is None or not found.ndim:
                continue  # reported with all other arrays
            if lengths.setdefault(size, len(found)) != len(found):
                raise ModelError(f"{path}: {place}.{name} has {len(found)} rows, expected {lengths[size]}; train again")
            empty = getattr(module, name)
            setattr(module, name, empty.new_empty((len(found), *empty.shape[1:])))
        if len({length > 0 for length in lengths.values()}) > 1:
            raise ModelError(f"{path}: {place} has {lengths}, expected none or all of them; train again")


def _checked_held_out(probability: Tensor, card: Card, path: Path) -> np.ndarray:
    """Return the stored probabilities of the validation rows."""
    fits = probability.ndim == 2 and probability.shape[1] == len(card.classes) and probability.dtype == torch.float32
    if not fits or not bool(((probability >= 0) & (probability <= 1)).all()):
        raise ModelError(f"{path}: {HELD_OUT!r} holds no probabilities of the {len(card.classes)} classes; train again")
    return np.asarray(probability.numpy())


def _current_name(tensor: str, network: Classifier) -> str:
    """Return the name of an array of any version as it is called now."""
    for earlier, name in _RENAMED.items():
        tensor = tensor.replace(earlier, name)
    return tensor.replace("network.nmcl.", "network.") if isinstance(network, NMCL) else tensor


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}; expected a folder that a training wrote") from error


def _read_card(path: Path) -> Card:
    content = _read(path)
    if len(content) > MAX_CARD_BYTES:
        raise ModelError(f"{path} has {len(content)} bytes, expected at most {MAX_CARD_BYTES}; train again")
    try:
        card = TypeAdapter(Card).validate_json(content)
    except ValidationError as error:
        raise ModelError(f"{path} is damaged or of another version: {_first(error)}; train again") from error
    if list(card.dims) != sorted(card.dims) or len(set(card.classes)) != len(card.classes):
        raise ModelError(f"{path} has unsorted modalities or repeated venues; train again")
    if card.settings.get("members", 1) != 1:
        raise ModelError(f"{path} is of {card.settings['members']} networks, expected one; train again")
    settings = with_current_names({**card.settings, "name": card.name})
    return dataclasses.replace(card, name=settings.pop("name"), settings=settings)


def _settings(card: Card) -> Any:
    """Return the validated settings dataclass of the card's model.

    Settings that the writing version did not have get their references.
    """
    kind = type(method(card.name).settings)
    known = with_references(kind, card.settings)
    try:
        settings = TypeAdapter(kind).validate_python(known)
    except ValidationError as error:
        raise ModelError(f"{CARD} has settings out of range: {_first(error)}; train again") from error
    if json.loads(json.dumps(dataclasses.asdict(settings))) != known:
        raise ModelError(f"{CARD} has settings that {card.name} does not know; train again")
    return settings


def _first(error: ValidationError) -> str:
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc'])) or 'content'}: {detail['msg']}"


def _expected(network: Classifier, dims: dict[str, int]) -> dict[str, tuple[int, ...]]:
    shapes = {f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
    for i, n_features in enumerate(dims.values()):
        shapes[f"mean.{i}"] = shapes[f"scale.{i}"] = (n_features,)
    return shapes


def _check_tensors(tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], path: Path) -> None:
    if tensors.keys() != expected.keys():
        odd = sorted(tensors.keys() ^ expected.keys())
        raise ModelError(f"{path} does not fit {CARD}: {len(odd)} arrays too many or missing, first {odd[0]!r}")
    for name, value in tensors.items():
        if tuple(value.shape) != expected[name] or value.dtype != torch.float32:
            raise ModelError(
                f"{path} does not fit {CARD}: {name!r} is {value.dtype} {tuple(value.shape)}, "
                f"expected torch.float32 {expected[name]}; train again"
            )
        if not torch.isfinite(value).all():
            raise ModelError(f"{path}: {name!r} has values that are not finite; train again")
    for name, value in tensors.items():
        if name.startswith("scale.") and not (value > 0).all():
            raise ModelError(f"{path}: {name!r} must be above 0; train again")
