"""What a comparative study tells: names, numbers and arrays, nothing that needs a store or a model to be read.

Shares and scores are 0..1. None and NaN mean that a value is not defined or was not measured. Names may be any text.
An empty sequence or mapping leaves its table, figure and section out. K is the number of venues.

Tables and figures are numbered as in Wei et al., "Neural Multimodal Cooperative Learning Toward Micro-Video
Understanding", IEEE TIP 29 (2020).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nmcl.model.evaluate import Curve

FUSED = "fused"
"""The name of the decision over all modalities among the branches of single modalities."""


@dataclass(frozen=True)
class Spread:
    """A measure over the seeds."""

    mean: float | None = None
    std: float | None = None
    """None with one seed."""
    values: tuple[float, ...] = ()
    """One per seed."""


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (n - 1) of at least one value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, tuple(map(float, values)))


@dataclass(frozen=True)
class ScoreRow:
    """A row of Table 3 or 5."""

    name: str
    micro_f1: Spread
    macro_f1: Spread
    p_value: float | None = None
    """Of micro-F1 against the reference, as in the paper."""
    macro_p_value: float | None = None
    """Of macro-F1 against the reference."""


@dataclass(frozen=True)
class MethodRow:
    """A row of Table 2. P-values are against the reference method, whose own are None."""

    name: str
    micro_f1: Spread
    macro_f1: Spread
    auc_micro: Spread = Spread()
    auc_macro: Spread = Spread()
    top5: Spread = Spread()
    """Share of rows whose venue is among the five most probable."""
    train_seconds: float | None = None
    """Wall-clock time of one training, mean over the seeds."""
    parameters: int | None = None
    """Trained numbers."""
    p_value: float | None = None
    """Of micro-F1, as in the paper."""
    macro_p_value: float | None = None
    """Of macro-F1; the verdict goes by it."""
    corrected_p_value: float | None = None
    """`macro_p_value` corrected for test rows that the seeds' random splits share; the same where all share one."""
    mcnemar_p_value: float | None = None
    """McNemar's test of the right and wrong test rows of all seeds together."""
    macro_interval: tuple[float, float] | None = None
    """95 % bootstrap interval of macro-F1 less that of the reference, over the test rows of all seeds together."""


@dataclass(frozen=True)
class Rows:
    """How many rows there are in each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class CompleterScores:
    """How well one completer fills in at one share hidden."""

    nrmse: float | None = None
    """Over all modalities; 0 is perfect, 1 is as good as the mean of the training rows."""
    per_modality: Mapping[str, float | None] = field(default_factory=dict)
    """The same by modality."""
    macro_f1: Spread = Spread()
    """Of a logistic regression, on the test rows with something hidden only."""


@dataclass(frozen=True)
class CompletionLevel:
    """All completers at one share hidden."""

    hidden: float
    """Share of the vectors that were hidden, such as 0.1."""
    completers: Mapping[str, CompleterScores]


@dataclass(frozen=True)
class AbsenceScores:
    """The reference method on test rows that all lack one modality."""

    micro_f1: Spread
    macro_f1: Spread
    macro_loss: float | None = None
    """Mean macro-F1 with nothing absent less that with the modality absent; above 0 where absence hurts."""


@dataclass(frozen=True)
class EpochScores:
    """Validation scores after one epoch, means over the seeds."""

    number: int
    """From 1."""
    micro_f1: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class GatePoint:
    """How the gates divide one side of one host modality after one epoch, means over rows and seeds."""

    epoch: int
    """From 1."""
    modality: str
    """The host."""
    side: Literal["host", "guest"]
    open: float
    """Share of gates that take a feature for consistent; `open`, `undecided` and `shut` add up to 1."""
    undecided: float
    shut: float
    """Share of gates that take a feature for complementary."""
    consistent_norm: float | None = None
    """Norm of the consistent part relative to that of both parts, 0..1."""
    complementary_norm: float | None = None
    divergence: float | None = None
    """Between the opinions of host and guest, nats; the same for both sides."""


@dataclass(frozen=True)
class RelationExample:
    """One test row as in Fig. 6: which features of a host its guests tell too.

    Raises:
        ValueError: the shapes do not fit.
    """

    title: str
    venue: str
    predicted: str
    host: str
    guests: Sequence[str]
    """G names: each guest alone, then all guests."""
    features: Sequence[int]
    """F indices of features of the host."""
    scores: np.ndarray
    """(G, F), relation scores in 0..1."""
    consistent: np.ndarray
    """(F,), share of each feature in the consistent part, 0..1."""
    complementary: np.ndarray
    """(F,), share in the complementary part; both add up to at most 1."""

    def __post_init__(self) -> None:
        n = len(self.features)
        _check_shape("relation scores", self.scores, (len(self.guests), n))
        _check_shape("consistent shares", self.consistent, (n,))
        _check_shape("complementary shares", self.complementary, (n,))


@dataclass(frozen=True)
class AttentionMemory:
    """The memory of one host's head as in Fig. 7.

    Raises:
        ValueError: the shapes do not fit.
    """

    host: str
    venues: Sequence[str]
    """K names."""
    features: Sequence[str]
    """F labels."""
    weights: np.ndarray
    """(K, F), about 1; more lets a feature speak louder for a venue."""

    def __post_init__(self) -> None:
        _check_shape("attention weights", self.weights, (len(self.venues), len(self.features)))


@dataclass(frozen=True)
class Trial:
    """One combination that the search tried."""

    settings: Mapping[str, Any]
    """Dotted name -> JSON value."""
    macro_f1: float | None
    """Of the validation rows."""
    chosen: bool = False


@dataclass(frozen=True)
class StudyData:
    """All that one study tells. Only the first seven fields are needed."""

    title: str
    created: str
    """Shown as it is."""
    rows: Rows
    dims: Mapping[str, int]
    """Modality -> number of features."""
    n_venues: int
    """K."""
    seeds: Sequence[int]
    methods: Sequence[MethodRow]
    """Table 2, in the order to show."""
    reference: str = "nmcl"
    """The method that all others are tested against."""
    modalities: Sequence[ScoreRow] = ()
    """Table 3: the reference method on each subset of the modalities."""
    enhanced: Mapping[str, Mapping[str, Spread]] = field(default_factory=dict)
    """Table 4: subset -> modality in it -> micro-F1 of its branch."""
    variants: Sequence[ScoreRow] = ()
    """Table 5."""
    completion: Sequence[CompletionLevel] = ()
    absence: Mapping[str, Mapping[Literal["completed", "masked"], AbsenceScores]] = field(default_factory=dict)
    """Modality that is absent at prediction -> what is done about it -> scores."""
    roc: Mapping[Literal["micro", "macro"], Mapping[str, Curve]] = field(default_factory=dict)
    """Fig. 4, by method."""
    epochs: Mapping[str, Sequence[EpochScores]] = field(default_factory=dict)
    """Fig. 5: modality, or `FUSED` -> its points in order."""
    gates: Sequence[GatePoint] = ()
    collapse: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Branch -> epoch -> share of rows that its most frequent prediction takes."""
    relations: Sequence[RelationExample] = ()
    """Fig. 6."""
    attention: Sequence[AttentionMemory] = ()
    """Fig. 7."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON values, nested."""
    tuning: Mapping[str, Sequence[Trial]] = field(default_factory=dict)
    """Method -> all that was tried for it."""
    notices: Sequence[str] = ()
    """What the reader must know before believing a number."""
    command: str | None = None
    """The command line that makes this study again."""


def finite(value: float | None) -> float | None:
    """The value, or None where it is not a number."""
    return value if value is not None and math.isfinite(value) else None


def _check_shape(what: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if np.shape(array) != expected:
        raise ValueError(f"found {what} of shape {np.shape(array)}, expected {expected}")
