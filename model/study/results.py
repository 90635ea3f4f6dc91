"""Results of a comparative study as names, numbers and arrays that can be read without a store or a model.

Shares and scores are 0..1. None and NaN mean that a value is not defined or was not measured. Names may be any text.
For an empty sequence or mapping the table, figure and section are left out. K is the number of classes.

Tables and figures are numbered as in Wei et al., "Neural Multimodal Cooperative Learning Toward Micro-Video
Understanding", IEEE TIP 29 (2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from nmcl.model.evaluate import Curve

FUSED = "fused"
"""Name of the fused prediction among the branches of single modalities."""


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and values of a measure over the seeds."""

    mean: float | None = None
    std: float | None = None
    """Sample standard deviation; None with one seed."""
    values: tuple[float, ...] = ()
    """One value per seed."""


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and sample standard deviation (n - 1) of at least one value."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, tuple(map(float, values)))


@dataclass(frozen=True)
class ScoreRow:
    """Row of Table 3 or 5."""

    name: str
    micro_f1: Spread
    macro_f1: Spread
    p_value: float | None = None
    """P-value of micro-F1 against the reference, as in the paper."""
    macro_p_value: float | None = None
    """P-value of macro-F1 against the reference. Both are of paired t-tests over the seeds."""
    verdict_p_value: float | None = None
    """P-value of macro-F1 against the reference by the test of `StudyData.tested`."""


@dataclass(frozen=True)
class MethodRow:
    """Row of Table 2. P-values are against the reference method, whose own are None, as where nothing can be tested."""

    name: str
    micro_f1: Spread
    macro_f1: Spread
    auc_micro: Spread = Spread()
    auc_macro: Spread = Spread()
    top5: Spread = Spread()
    """Share of rows whose class is among the five most probable."""
    ece: Spread = Spread()
    """Expected calibration error."""
    ece_if_calibrated: Spread = Spread()
    """Mean of `ece` by chance alone, if the confidences were exact."""
    train_seconds: float | None = None
    """Wall-clock time of one training, mean over the seeds."""
    parameters: int | None = None
    """Number of trained parameters."""
    p_value: float | None = None
    """P-value of micro-F1 by a paired t-test over the seeds, as in the paper."""
    macro_p_value: float | None = None
    """P-value of macro-F1 by a paired t-test over the seeds."""
    corrected_p_value: float | None = None
    """`macro_p_value` corrected for the overlap of the seeds' random splits; equal to it if all seeds share one split.
    """
    verdict_p_value: float | None = None
    """P-value of macro-F1 by the test of `StudyData.tested`, which decides the verdict."""
    mcnemar_p_value: float | None = None
    """P-value of McNemar's test on the right and wrong test rows of the first seed."""
    macro_interval: tuple[float, float] | None = None
    """95 % bootstrap interval of macro-F1 minus that of the reference, over the test rows of all seeds together."""


@dataclass(frozen=True)
class Rows:
    """Number of rows in each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class CompleterScores:
    """Scores of one completer at one hidden share."""

    nrmse: float | None = None
    """NRMSE over all modalities; 0 is perfect, 1 is as good as the mean of the training rows."""
    per_modality: Mapping[str, float | None] = field(default_factory=dict)
    """NRMSE by modality."""
    macro_f1: Spread = Spread()
    """Macro-F1 of a logistic regression on the test rows with a hidden modality."""


@dataclass(frozen=True)
class CompletionLevel:
    """Scores of all completers at one hidden share."""

    hidden: float
    """Share of hidden vectors, such as 0.1."""
    completers: Mapping[str, CompleterScores]


@dataclass(frozen=True)
class AbsenceScores:
    """Scores of the reference method on test rows that all lack one modality."""

    micro_f1: Spread
    macro_f1: Spread
    macro_loss: float | None = None
    """Mean macro-F1 with nothing absent minus that with the modality absent; > 0 if absence hurts."""


@dataclass(frozen=True)
class LabelShare:
    """Scores of one method with a share of the training labels."""

    method: str
    share: float
    """Share of the labels, 0..1."""
    n_labels: int
    """Number of labels, a mean over the seeds."""
    macro_f1: Spread
    """Trained on the labelled rows alone."""
    with_unlabelled: Spread = Spread()
    """Macro-F1 trained on the other training rows, too, without their labels; empty if there are none."""
    p_value: float | None = None
    """P-value of the difference between the two by the test of `StudyData.tested`."""


@dataclass(frozen=True)
class EpochScores:
    """Validation scores after one epoch, means over the seeds."""

    number: int
    """Epoch number, from 1."""
    micro_f1: float | None
    macro_f1: float | None


@dataclass(frozen=True)
class GatePoint:
    """Gate diagnostics of one side of one host modality after one epoch, means over rows and seeds."""

    epoch: int
    """Epoch number, from 1."""
    modality: str
    """The host."""
    side: Literal["host", "guest"]
    open: float
    """Share of gates that treat a feature as consistent; `open`, `undecided` and `shut` add up to 1."""
    undecided: float
    shut: float
    """Share of gates that treat a feature as complementary."""
    consistent_norm: float | None = None
    """Norm of the consistent part relative to that of both parts, 0..1."""
    complementary_norm: float | None = None
    divergence: float | None = None
    """Divergence between p_h and p_g of eq. 12, nats; the same for both sides."""


@dataclass(frozen=True)
class RelationExample:
    """Relation scores of one test row as in Fig. 6: which host features are consistent with the guests.

    Raises:
        ValueError: the shapes do not fit.
    """

    title: str
    """Name of the row."""
    label: str
    """Name of the row's class."""
    predicted: str
    host: str
    guests: Sequence[str]
    """G names: each guest alone, then all guests."""
    features: Sequence[str]
    """F names or numbers of host features."""
    scores: np.ndarray
    """Relation scores, shape (G, F), 0..1."""
    consistent: np.ndarray
    """Share of each feature in the consistent part, shape (F,), 0..1."""
    complementary: np.ndarray
    """Share of each feature in the complementary part, shape (F,); both add up to at most 1."""
    image: bytes | None = None
    """A picture of the row, a JPEG file."""

    def __post_init__(self) -> None:
        n = len(self.features)
        _check_shape("relation scores", self.scores, (len(self.guests), n))
        _check_shape("consistent shares", self.consistent, (n,))
        _check_shape("complementary shares", self.complementary, (n,))


@dataclass(frozen=True)
class AttentionMemory:
    """Attention memory of one host's head as in Fig. 7.

    Raises:
        ValueError: the shapes do not fit.
    """

    host: str
    classes: Sequence[str]
    """K names."""
    features: Sequence[str]
    """F names or numbers of host features."""
    weights: np.ndarray
    """Attention weights, shape (K, F), about 1; a larger one gives a feature more weight for a class."""

    def __post_init__(self) -> None:
        _check_shape("attention weights", self.weights, (len(self.classes), len(self.features)))


@dataclass(frozen=True)
class Trial:
    """One combination of settings that the search tried."""

    settings: Mapping[str, Any]
    """Dotted name -> JSON value."""
    macro_f1: float | None
    """Macro-F1 of the validation rows."""
    chosen: bool = False


@dataclass(frozen=True)
class StudyData:
    """Complete results of one study. Only the first seven fields are required."""

    title: str
    created: str
    """Date, shown unchanged."""
    rows: Rows
    dims: Mapping[str, int]
    """Modality -> number of features."""
    n_classes: int
    """K."""
    seeds: Sequence[int]
    methods: Sequence[MethodRow]
    """Table 2, in display order."""
    tested: Literal["rows", "splits"] = "rows"
    """What verdicts generalise to: other rows, by a permutation test over the test rows, if all seeds share one split;
    else other splits, by a t-test over the seeds that is corrected for the overlap of their splits."""
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
    """Modality that is absent at prediction -> how it is handled -> scores."""
    learning_curves: Sequence[LabelShare] = ()
    """Macro-F1 by method and share of the training labels, in order."""
    roc: Mapping[Literal["micro", "macro"], Mapping[str, Curve]] = field(default_factory=dict)
    """Fig. 4, by method."""
    epochs: Mapping[str, Sequence[EpochScores]] = field(default_factory=dict)
    """Fig. 5: modality, or `FUSED` -> scores by epoch, in order."""
    gates: Sequence[GatePoint] = ()
    collapse: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """Branch -> epoch -> share of rows with the most frequent prediction."""
    relations: Sequence[RelationExample] = ()
    """Fig. 6."""
    attention: Sequence[AttentionMemory] = ()
    """Fig. 7."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings as nested JSON values."""
    tuning: Mapping[str, Sequence[Trial]] = field(default_factory=dict)
    """Method -> all its trials."""
    notices: Sequence[str] = ()
    """Caveats that a reader of the results must know."""
    command: str | None = None
    """Command line that reproduces this study."""


def _check_shape(what: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if np.shape(array) != expected:
        raise ValueError(f"found {what} of shape {np.shape(array)}, expected {expected}")
