"""Every model by its name. A new one is a file and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model.base import Shape, VenueModel
from model.baselines.logistic import Logistic, LogisticSettings
from model.nmcl import NMCL, PAPER, NMCLSettings
from pipeline.errors import ModelError


@dataclass(frozen=True)
class Method:
    """How a model is built."""

    build: Callable[[Shape, Any], VenueModel]
    """From the shape and settings of the type of `settings`."""
    settings: Any
    """The defaults, a frozen dataclass."""
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What a search tries: the dotted name of a setting -> its values."""


NETWORK_GRID = {
    "train.batch_size": (128, 256, 512),
    "train.learning_rate": (0.001, 0.005, 0.01, 0.05, 0.1),
    "dropout": (0.0, 0.1, 0.3, 0.5),
}
"""Batch sizes and learning rates are the paper's (section 5.1.3), which names dropout and no rate."""

MODELS: dict[str, Method] = {
    "logistic": Method(Logistic, LogisticSettings()),
    "nmcl": Method(NMCL, NMCLSettings(), NETWORK_GRID),
    "nmcl_paper": Method(NMCL, PAPER, NETWORK_GRID),
    "variant_1": Method(NMCL, NMCLSettings(composition="variant_1"), NETWORK_GRID),
    "variant_2": Method(NMCL, NMCLSettings(composition="variant_2"), NETWORK_GRID),
    "variant_3": Method(NMCL, NMCLSettings(composition="variant_3"), NETWORK_GRID),
    "variant_4": Method(NMCL, NMCLSettings(composition="variant_4"), NETWORK_GRID),
}


def method(name: str) -> Method:
    """The entry of a name.

    Raises:
        ModelError: there is none.
    """
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]
