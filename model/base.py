"""What a model is: a torch module made from a shape and its settings, that can fit itself.

Its state dict is all that a checkpoint holds of it, so what a closed-form method learns goes into buffers.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from nmcl.model.data import Dataset
from nmcl.pipeline.progress import Progress

CODE_VERSION = 5
"""Raised whenever a change of code changes what a model learns or decides, or the file it is kept in."""

Features = dict[str, Tensor]
"""Standardised features by modality, shape (N, D_m), float32, in sorted order of names."""
Mask = dict[str, Tensor]
"""By modality, shape (N,), bool; False where the vector was completed."""


@dataclass(frozen=True)
class Shape:
    """What a model's parameters depend on besides its settings."""

    dims: dict[str, int]
    """D_m by modality, in sorted order of names."""
    venues: tuple[str, ...]
    """Name of each class, in the order of probability columns."""

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.venues)


@dataclass(frozen=True)
class Output:
    """A model's decision for N rows."""

    log_probability: Tensor
    """Shape (N, K); each row's exponentials sum to 1."""
    per_modality: dict[str, Tensor] = field(default_factory=dict)
    """The same of each modality's branch; empty for a model without branches."""


@dataclass(frozen=True)
class Scores:
    """Shares in 0..1."""

    micro_f1: float
    macro_f1: float
    largest_share: float
    """Share of the rows that the most frequent decision takes: near 1 where a branch has collapsed."""


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve."""

    number: int
    """From 1."""
    loss: float
    """Mean over the epoch's mini-batches, nats."""
    validation_loss: float
    """Mean negative log-likelihood of the validation rows, nats."""
    validation: Scores
    per_modality: dict[str, Scores]
    diagnostics: dict[str, Any] = field(default_factory=dict)
    """`Classifier.diagnose` on validation rows."""


class Classifier(nn.Module, ABC):
    """A method that turns standardised features into venue probabilities."""

    @abstractmethod
    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        """Learn from standardised rows; validation rows only choose among alternatives. Empty history if in
        one step.

        Called under a seeded global torch generator; `seed` is for other libraries.
        """

    @abstractmethod
    def forward(self, features: Features, observed: Mask) -> Output:
        """Decide N rows."""

    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """What the model can tell about itself on these rows, JSON values; empty unless overridden."""
        return {}
