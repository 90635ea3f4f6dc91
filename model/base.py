"""The model interface: a torch module, built from a shape and its settings, that can fit itself.

A checkpoint stores only the model's state dict, so closed-form methods keep their fitted values in buffers.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from nmcl.model.data import Dataset
from nmcl.pipeline.progress import Progress

CODE_VERSION = 5
"""Version to increment whenever a code change alters the checkpoint format, or values by more than rounding does."""

Features = dict[str, Tensor]
"""Standardised features by modality, shape (N, D_m), float32, in sorted order of names."""
TERMS = "{}.terms"
"""Key of the term weights of a feature set among `Features`, for models that read them: sparse, (N, T_m)."""
Mask = dict[str, Tensor]
"""Observed rows by modality, shape (N,), bool; False where the vector was completed."""


@dataclass(frozen=True)
class Shape:
    """Dimensions and classes of a data set, on which a model's parameters depend besides its settings."""

    dims: dict[str, int]
    """D_m by modality, in sorted order of names."""
    classes: tuple[str, ...]
    """Name of each class, in the order of probability columns."""
    n_terms: dict[str, int] = field(default_factory=dict)
    """T_m by the name of each feature set with sparse term weights, in sorted order."""

    @property
    def n_classes(self) -> int:
        """The number of classes K."""
        return len(self.classes)


@dataclass(frozen=True)
class Output:
    """Predictions of a model for N rows."""

    log_probability: Tensor
    """Shape (N, K); each row's exponentials sum to 1."""
    per_modality: dict[str, Tensor] = field(default_factory=dict)
    """Log-probabilities of each modality's branch, shape (N, K); empty for a model without branches."""


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions, all in 0..1."""

    micro_f1: float
    macro_f1: float
    largest_share: float
    """Share of rows with the most frequent prediction: near 1 where a branch has collapsed."""


@dataclass(frozen=True)
class Epoch:
    """Losses, scores and diagnostics of one epoch of training."""

    number: int
    """Epoch number, from 1."""
    loss: float
    """Mean over the epoch's mini-batches, nats."""
    validation_loss: float
    """Mean negative log-likelihood of the validation rows, nats."""
    validation: Scores
    per_modality: dict[str, Scores]
    diagnostics: dict[str, Any] = field(default_factory=dict)
    """Result of `Classifier.diagnose` on validation rows."""


class Classifier(nn.Module, ABC):
    """Base class of all models, which map standardised features to class probabilities."""

    free_sizes: ClassVar[Mapping[str, str]] = {}
    """Own buffers whose first dimension depends on the training rows, with the name of that size: buffers with the same
    one are equally long."""
    reads_terms: ClassVar[bool] = False
    """Whether `forward` also gets sparse term weights, under `TERMS` among the features, shape (N, T_m)."""
    held_out: Tensor | None = None
    """Log-probabilities of the validation rows by models that were not fitted to them, shape (N, K); None if the model
    itself was not fitted to them."""

    @abstractmethod
    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        """Fit to standardised rows and return the training history, which is empty for closed-form methods.

        Validation rows choose among alternatives; a model that is also fitted to them sets `held_out`. Called under a
        seeded global torch generator; `seed` is for other libraries.
        """

    @abstractmethod
    def forward(self, features: Features, observed: Mask) -> Output:
        """Predict N rows."""

    def diagnose(self, features: Features, observed: Mask) -> dict[str, Any]:
        """Return diagnostics of the model on these rows as JSON values; empty unless overridden."""
        return {}


class Member(Classifier):
    """Base class of models that can be members of a stack: they can be fitted again, to other rows."""

    chooses: ClassVar[bool] = True
    """Whether `fit` chooses anything; if not, `refit` needs no `fit` before."""

    @abstractmethod
    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        """Fit to other standardised rows with what `fit` chose."""
