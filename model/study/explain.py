"""Explanations of a trained NMCL for figures: relation scores of single rows, and the attention memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nmcl.model.nmcl.attention import AttentionHead
from nmcl.model.nmcl.cooperative import CooperativeNet
from nmcl.model.nmcl.nmcl import NMCL
from nmcl.model.nmcl.stacking import StackedNMCL
from nmcl.model.study.results import AttentionMemory, RelationExample
from nmcl.model.trained import Trained
from nmcl.pipeline.errors import ModelError

MOST_FEATURES = 40
"""Number of features that a figure shows, those that vary most."""


@dataclass(frozen=True)
class Division:
    """How N rows' features are divided with one modality as host."""

    shares: np.ndarray
    """Mean weight of the host's features as consistent and as complementary (gamma and delta of eq. 9): shape (N, 2),
    float32, each in 0..1."""
    scores: np.ndarray
    """Relation scores against all guests of the F <= `MOST_FEATURES` features that vary most: shape (N, F), 0..1."""


def relation(
    trained: Trained,
    modalities: Mapping[str, np.ndarray],
    row: int,
    host: str,
    title: str,
    label: str,
    dimensions: Sequence[str] = (),
) -> RelationExample:
    """Return the relation scores of one row's host features (Fig. 6): against each guest alone, then against all.

    The paper's score of a host feature (eq. 4) is against all guests at once. The score against one guest is computed
    with the others at their training mean.

    Args:
        trained: the model.
        modalities: by name, shape (N, D_m), as extracted and completed.
        row: index of the row.
        host: name of a modality.
        title: title of the example.
        label: name of the row's class.
        dimensions: names of all host features; without them they are numbered.

    Raises:
        ModelError: the model is not an NMCL of two or more modalities.
    """
    network = _cooperative(trained)
    at = network.names.index(host)
    guests = [name for name in network.names if name != host]
    net: CooperativeNet = network.nets[at]  # type: ignore[assignment]
    standard = trained.standardizer.apply(modalities)
    vectors = {name: torch.from_numpy(array[row : row + 1]) for name, array in standard.items()}
    shown = [[guest] for guest in guests] + ([guests] if len(guests) > 1 else [])
    with torch.inference_mode():
        everything = torch.cat(
            [
                torch.cat(
                    [vectors[host], *(vectors[g] if g in kept else torch.zeros_like(vectors[g]) for g in guests)], 1
                )
                for kept in shown
            ]
        )
        weights = net.host(everything)
        all_rows = torch.cat([torch.from_numpy(standard[name]) for name in (host, *guests)], dim=1)
        features = _most_varied(net.host(all_rows).score.numpy())
    predicted = trained.predict({name: array[row : row + 1] for name, array in modalities.items()})
    return RelationExample(
        title=title,
        label=label,
        predicted=trained.classes[int(predicted.probability[0].argmax())],
        host=host,
        guests=[" + ".join(kept) for kept in shown],
        features=_named(features, dimensions),
        scores=weights.score.clamp(0, 1).numpy()[:, features],
        consistent=weights.consistent[-1].numpy()[features],
        complementary=weights.complementary[-1].numpy()[features],
    )


def _most_varied(scores: np.ndarray) -> np.ndarray:
    """Return the columns of (N, D) that vary most, in ascending order, at most `MOST_FEATURES`."""
    return np.sort(np.argsort(-scores.std(axis=0), kind="stable")[:MOST_FEATURES])


def division(
    trained: Trained, modalities: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray]
) -> dict[str, Division]:
    """Return how each row's features are divided with each modality as host; empty for a model without relation scores.

    Args:
        trained: the model.
        modalities: by name, shape (N, D_m), as extracted and completed.
        observed: which rows were extracted, shape (N,), bool.
    """
    network = (trained.network.nmcl if isinstance(trained.network, StackedNMCL) else trained.network).cpu()
    if not isinstance(network, NMCL) or not network.nets:
        return {}
    features = {name: torch.from_numpy(array) for name, array in trained.standardizer.apply(modalities).items()}
    masks = {name: torch.from_numpy(np.asarray(flags, bool)) for name, flags in observed.items()}
    with torch.inference_mode():
        parts = network.parts(features, masks)
    found = {}
    for name, part in zip(network.names, parts, strict=True):
        host, _ = part.weights
        means = torch.stack([host.consistent.mean(dim=1), host.complementary.mean(dim=1)], dim=1)
        scores = host.score.clamp(0, 1).numpy()
        found[name] = Division(means.numpy(), scores[:, _most_varied(scores)])
    return found


def attention_memory(trained: Trained, host: str, dimensions: Sequence[str] = ()) -> AttentionMemory:
    """Return the memory of one host's head for the host features that differ most between classes (Fig. 7).

    Args:
        trained: the model.
        host: name of a modality.
        dimensions: names of all host features; without them they are numbered.

    Raises:
        ModelError: the model is not an NMCL of two or more modalities.
    """
    network = _cooperative(trained)
    head: AttentionHead = network.heads[network.names.index(host)]  # type: ignore[assignment]
    with torch.inference_mode():
        whole = head.memory()
    memory = whole[:, : trained.dims[host]].numpy()  # the complementary part of the host comes first
    features = np.sort(np.argsort(-memory.std(axis=0), kind="stable")[:MOST_FEATURES])
    return AttentionMemory(host, trained.classes, _named(features, dimensions), memory[:, features])


def _named(features: np.ndarray, dimensions: Sequence[str]) -> list[str]:
    return [dimensions[i] if dimensions else str(i) for i in features]


def has_relations(trained: Trained) -> bool:
    """Return whether a model is an NMCL of two or more modalities."""
    network = trained.network
    return isinstance(network, NMCL) and bool(network.nets)


def _cooperative(trained: Trained) -> NMCL:
    network = trained.network.cpu()
    if not isinstance(network, NMCL) or not network.nets or network.settings.composition != "cooperative":
        raise ModelError(f"{trained.name} on {len(trained.dims)} modalities has no relation scores; train nmcl on two")
    return network
