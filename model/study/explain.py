"""What a trained NMCL has learnt, in pictures' terms: relation scores of single rows, and the attention memory.

Of several networks in one model the means are shown.
"""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import torch

from nmcl.model.nmcl.attention import AttentionHead
from nmcl.model.nmcl.cooperative import CooperativeNet, Weights
from nmcl.model.nmcl.ensemble import Committee
from nmcl.model.study.results import AttentionMemory, RelationExample
from nmcl.model.trained import Trained
from nmcl.pipeline.errors import ModelError

MOST_FEATURES = 40
"""Features that a picture shows, those that vary most."""


def relation(
    trained: Trained, modalities: Mapping[str, np.ndarray], row: int, host: str, title: str, venue: str
) -> RelationExample:
    """Relation scores of one row's host features (Fig. 6): against each guest alone, then against all.

    The paper's score of a host feature (eq. 4) is against all guests at once. Against one guest it is the score with
    the others at their training mean.

    Args:
        modalities: by name, shape (N, D_m), as extracted and completed.
        row: which of the N rows.
        host: name of a modality.

    Raises:
        ModelError: not an NMCL of two or more modalities.
    """
    network = _cooperative(trained)
    at = network.networks[0].names.index(host)
    guests = [name for name in network.networks[0].names if name != host]
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
        weights = _weights(network, at, everything)
        spread = _weights(network, at, _side_by_side(standard, host, guests)).score.std(dim=0, correction=0).numpy()
    features = np.sort(np.argsort(-spread, kind="stable")[:MOST_FEATURES])
    predicted = trained.predict({name: array[row : row + 1] for name, array in modalities.items()})
    return RelationExample(
        title=title,
        venue=venue,
        predicted=trained.venues[int(predicted.probability[0].argmax())],
        host=host,
        guests=[" + ".join(kept) for kept in shown],
        features=features.tolist(),
        scores=weights.score.clamp(0, 1).numpy()[:, features],
        consistent=weights.consistent[-1].numpy()[features],
        complementary=weights.complementary[-1].numpy()[features],
    )


def attention_memory(trained: Trained, host: str) -> AttentionMemory:
    """The memory of one host's head over the host's own features (Fig. 7), those that differ most between venues.

    Raises:
        ModelError: not an NMCL of two or more modalities.
    """
    network = _cooperative(trained)
    at = network.networks[0].names.index(host)
    heads: list[AttentionHead] = [member.heads[at] for member in network.networks]  # type: ignore[misc]
    with torch.inference_mode():
        whole = torch.stack([head.memory() for head in heads]).mean(dim=0)
    memory = whole[:, : trained.dims[host]].numpy()  # the complementary part of the host comes first
    features = np.sort(np.argsort(-memory.std(axis=0), kind="stable")[:MOST_FEATURES])
    return AttentionMemory(host, trained.venues, [str(i) for i in features], memory[:, features])


def _cooperative(trained: Trained) -> Committee:
    network = trained.network
    if (
        not isinstance(network, Committee)
        or not network.networks[0].nets
        or network.settings.composition != "cooperative"
    ):
        raise ModelError(f"{trained.name} on {len(trained.dims)} modalities has no relation scores; train nmcl on two")
    return network


def _weights(network: Committee, at: int, everything: torch.Tensor) -> Weights:
    """How a host is divided, means over the members. Args: everything: [host, guests], shape (N, D)."""
    nets: list[CooperativeNet] = [member.nets[at] for member in network.networks]  # type: ignore[misc]
    of_members = [net.host(everything) for net in nets]
    return Weights(*(torch.stack([getattr(w, f.name) for w in of_members]).mean(dim=0) for f in fields(Weights)))


def _side_by_side(standard: Mapping[str, np.ndarray], host: str, guests: list[str]) -> torch.Tensor:
    return torch.cat([torch.from_numpy(standard[name]) for name in (host, *guests)], dim=1)
