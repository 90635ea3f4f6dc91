"""Every model by its name. A new one is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.base import Shape, VenueModel
from model.logistic import Logistic, LogisticSettings
from model.nmcl import NMCL, PAPER, NMCLSettings
from pipeline.errors import ModelError


@dataclass(frozen=True)
class Method:
    """How a model is built."""

    build: Callable[[Shape, Any], VenueModel]
    """From the shape and settings of the type of `settings`."""
    settings: Any
    """The defaults, a frozen dataclass."""


MODELS: dict[str, Method] = {
    "logistic": Method(Logistic, LogisticSettings()),
    "nmcl": Method(NMCL, NMCLSettings()),
    "nmcl_paper": Method(NMCL, PAPER),
}


def method(name: str) -> Method:
    """The entry of a name.

    Raises:
        ModelError: there is none.
    """
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]
