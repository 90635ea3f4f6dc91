"""Registry of all models by name. To add one, add a file and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nmcl.model.base import Classifier, Shape
from nmcl.model.baselines.dare import Dare, DareLite, DareLiteSettings, DareSettings
from nmcl.model.baselines.early_attention import EarlyAttention, EarlyAttentionSettings
from nmcl.model.baselines.early_fusion import EarlyFusion, EarlyFusionSettings
from nmcl.model.baselines.forest import Forest, ForestLate, ForestSettings
from nmcl.model.baselines.kernel_ridge import KernelRidge, KernelRidgeSettings
from nmcl.model.baselines.late_attention import LateAttention, LateAttentionSettings
from nmcl.model.baselines.late_fusion import LateFusion, LateFusionSettings
from nmcl.model.baselines.logistic import Logistic, LogisticSettings
from nmcl.model.baselines.logistic_late import LogisticLate
from nmcl.model.baselines.mahalanobis import Mahalanobis
from nmcl.model.baselines.majority import Majority, MajoritySettings
from nmcl.model.baselines.mlp import MLP, MLPSettings
from nmcl.model.baselines.ngrams import NgramBayes, NgramBayesSettings, NgramLogistic, NgramLogisticSettings
from nmcl.model.baselines.tokens import Tokens, TokensSettings
from nmcl.model.baselines.trumann import Trumann, TrumannSettings
from nmcl.model.nmcl.nmcl import DEVIATIONS, NMCL, PAPER, NMCLSettings, as_printed
from nmcl.model.nmcl.stacking import StackedNMCL, StackedSettings
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.text import hint


@dataclass(frozen=True)
class Method:
    """Registry entry of a model: constructor, default settings and search grid."""

    build: Callable[[Shape, Any], Classifier]
    """Constructor from a shape and settings of the type of `settings`."""
    settings: Any
    """Default settings, a frozen dataclass."""
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Search grid: the dotted name of a setting -> its values."""
    needs_terms: bool = False
    """Whether it needs a feature set with sparse term weights."""
    is_seeded: bool = True
    """Whether its result depends on the seed."""


NETWORK_GRID = {
    "train.batch_size": (128, 256, 512),
    "train.learning_rate": (0.001, 0.005, 0.01, 0.05, 0.1),
    "dropout": (0.0, 0.1, 0.3, 0.5),
}
"""Search grid of networks: batch sizes and learning rates are the paper's (section 5.1.3), which has dropout but gives
no rate."""
DARE_GRID = {
    "train.batch_size": (128, 256, 512),
    "train.learning_rate": (0.001, 0.005, 0.01, 0.05, 0.1),
    "dropout": (0.0, 0.1, 0.3, 0.5),
    "similarity_weight": (0.0, 0.1, 1.0),
}
TRUMANN_GRID = {
    "space_penalties": ((0.1,), (1.0,), (10.0,), (100.0,)),
    "width": (50, 100, 250),
    "max_sweeps": (10, 30),
}
KERNEL_GRID = {"width": (0.05, 0.1, 0.2, 0.5, 1.0)}

MODELS: dict[str, Method] = {
    "nmcl": Method(NMCL, NMCLSettings(), NETWORK_GRID),
    "nmcl_paper": Method(NMCL, PAPER, NETWORK_GRID),
    "nmcl_stacked": Method(StackedNMCL, StackedSettings(), NETWORK_GRID),
    "variant_1": Method(NMCL, NMCLSettings(composition="variant_1"), NETWORK_GRID),
    "variant_2": Method(NMCL, NMCLSettings(composition="variant_2"), NETWORK_GRID),
    "variant_3": Method(NMCL, NMCLSettings(composition="variant_3"), NETWORK_GRID),
    "variant_4": Method(NMCL, NMCLSettings(composition="variant_4"), NETWORK_GRID),
    "early_fusion": Method(EarlyFusion, EarlyFusionSettings(), NETWORK_GRID),
    "late_fusion": Method(LateFusion, LateFusionSettings(), NETWORK_GRID),
    "early_attention": Method(EarlyAttention, EarlyAttentionSettings(), NETWORK_GRID),
    "late_attention": Method(LateAttention, LateAttentionSettings(), NETWORK_GRID),
    "trumann": Method(Trumann, TrumannSettings(), TRUMANN_GRID),
    "dare": Method(Dare, DareSettings(), DARE_GRID),
    "dare_lite": Method(DareLite, DareLiteSettings(), DARE_GRID),
    "logistic": Method(Logistic, LogisticSettings(), is_seeded=False),
    "logistic_late": Method(LogisticLate, LogisticSettings(), is_seeded=False),
    "kernel_ridge": Method(KernelRidge, KernelRidgeSettings(), KERNEL_GRID),
    "mahalanobis": Method(Mahalanobis, KernelRidgeSettings(), KERNEL_GRID),
    "forest": Method(Forest, ForestSettings()),
    "forest_late": Method(ForestLate, ForestSettings()),
    "ngram_bayes": Method(NgramBayes, NgramBayesSettings(), needs_terms=True, is_seeded=False),
    "ngram_logistic": Method(NgramLogistic, NgramLogisticSettings(), needs_terms=True, is_seeded=False),
    "mlp": Method(MLP, MLPSettings(), NETWORK_GRID),
    "tokens": Method(Tokens, TokensSettings(), NETWORK_GRID),
    "majority": Method(Majority, MajoritySettings(), is_seeded=False),
}

ABLATIONS: dict[str, Method] = {f"printed_{name}": Method(NMCL, as_printed(name), NETWORK_GRID) for name in DEVIATIONS}
"""Ablations: NMCL with one deviation from the paper reverted, to measure its effect."""


RENAMED = {"opinion_weight": "auxiliary_weight"}
"""Settings by their names in earlier versions."""


def with_current_names(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name and settings of a model, which an earlier version or its user wrote, under today's names.

    The stack was called `nmcl` before, and the network alone was `nmcl` with `peers=[]`.

    Args:
        model: Names -> values, as in the section `[model]`, with `name`; the others may be incomplete.
    """
    entry = (MODELS | ABLATIONS).get(str(model.get("name")))
    if entry is None or not isinstance(entry.settings, NMCLSettings):
        return dict(model)
    found = {RENAMED.get(name, name): value for name, value in model.items()}
    if "peers" not in found:
        return found
    peers = found.pop("peers")
    if peers in ([], ()):
        return {**found, "name": "nmcl" if found["name"] == "nmcl_stacked" else found["name"]}
    return {**hashed(entry.settings), **found, "name": "nmcl_stacked", "stacked_with": peers}


def method(name: str) -> Method:
    """Return the registry entry of a model.

    Raises:
        ModelError: there is no model of this name.
    """
    known = MODELS | ABLATIONS
    if name not in known:
        raise ModelError(f"There is no model {name!r}.{hint(name, known)} Expected one of {', '.join(known)}.")
    return known[name]
