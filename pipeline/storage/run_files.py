"""Record types of a run's JSON files, shared by the scorer, the pages and the commands.

Shares and scores are in 0..1, and None if a measure is not defined. If a key on disk differs from the name of its
field, the field has it as an alias. All counts are of videos unless stated otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nmcl.pipeline.storage.shapes import Count

COUNTS = ("videos", "train", "validation", "test", "unlabelled")
"""Counts that every version of `Metrics.counts` has."""


def _with_counts(*names: str) -> AfterValidator:
    def check(found: Mapping[str, Any]) -> Mapping[str, Any]:
        if wrong := [name for name in names if type(found.get(name)) is not int]:
            raise ValueError(f"{wrong[0]} is missing or not a whole number")
        return found

    return AfterValidator(check)


@dataclass(frozen=True)
class Timing:
    """Time that a stage worked for a run, over all its interruptions."""

    seconds: float
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds by step, summed over parts and workers."""


@dataclass(frozen=True)
class SplitScores:
    """Scores on the videos of one split."""

    n_rows: Count
    micro_f1: float | None = None
    """With one label per video, the accuracy."""
    macro_f1: float | None = None
    auc_micro: float | None = None
    auc_macro: float | None = None
    """One-vs-rest AUC, mean over the classes with labels of both kinds."""
    top5: float | None = None
    """Share of videos whose label is among the min(5, K) most probable of K classes."""
    log_loss: float | None = None
    """Log loss in nats."""
    majority_share: float | None = None
    """Accuracy of always predicting the most frequent label."""
    ece: float | None = None
    """Expected calibration error; 0 if 80 % confidence means 80 % right."""
    ece_if_calibrated: float | None = None
    """Mean of `ece` by chance alone, if the confidences were exact."""


@dataclass(frozen=True)
class Completion:
    """Completion of missing modalities."""

    method: str
    held_out: Mapping[str, Any]
    """See `nmcl.pipeline.completion.held_out`."""

    @property
    def nrmse(self) -> dict[str, Mapping[str, float | None]]:
        """Completer -> modality -> error on held-out blocks; 1 is as good as the mean of the training videos."""
        return {method: scores["per_modality"] for method, scores in self.held_out["nrmse"].items()}


@dataclass(frozen=True)
class Metrics:
    """Evaluation of a run."""

    test: SplitScores
    validation: SplitScores
    modalities: Annotated[Mapping[str, SplitScores], Field(alias="modality")]
    """By modality: the same model trained and tested on it alone."""
    counts: Annotated[Mapping[str, Count], _with_counts(*COUNTS)]
    notices: tuple[str, ...]
    """Caveats that the reader must know before trusting a number."""
    seconds: Mapping[str, float]
    """Wall-clock time by stage."""
    extract_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of `extract` by step."""
    classes: Annotated[tuple[str, ...], Field(alias="venues")] = ()
    """K names, in the order of the model's probabilities."""
    set_aside: Annotated[Mapping[str, int], Field(alias="set_aside_venues")] = field(default_factory=dict)
    """Labels with too few videos to be classes -> their number of videos."""
    completion: Completion | None = None
    autoencoder: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    """The model's own diagnostics, on validation videos."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> dict[str, int]:
        """Modality -> usable videos without it."""
        return {name.removeprefix("missing_"): n for name, n in self.counts.items() if name.startswith("missing_")}

    @property
    def headline(self) -> dict[str, Any]:
        """Test scores shown in the list of runs and the history of champions."""
        return {"macro_f1": self.test.macro_f1, "micro_f1": self.test.micro_f1, "n_rows": self.test.n_rows}


@dataclass(frozen=True)
class ModelCard:
    """Fields of a model's card that the store reads; `nmcl.model.checkpoint` has all of it."""

    classes: Annotated[tuple[str, ...], Field(alias="venues")]
    weights_sha256: str = ""


@dataclass(frozen=True)
class CrawlDiff:
    """Content of a crawl that the champion was not trained on."""

    crawl: str
    n_videos: Count
    """Number of videos with new content."""
    n_labelled: Count
    """Number of labelled videos among them."""
    n_known: Count
    """All others: their content is in the champion's crawls, or in an earlier crawl."""
    n_renamed: Count
    """Known videos that are in another crawl under another name."""
    n_relabelled: Count
    """Known videos with another label, or in the same crawl without one: the earlier label counts."""


@dataclass(frozen=True)
class DriftFigure:
    """One measure of drift, tested by permutations of the rows."""

    value: float | None
    """None if either side has too few rows to measure."""
    null_mean: Annotated[float | None, Field(alias="by_chance")]
    """Mean of the null distribution, the measure over the permutations."""
    p_value: float | None
    """Share of permutations with at least this value."""
    limit: float
    """Limit of `value - null_mean`."""
    n_reference: Count
    """Rows of the champion's crawls."""
    n_new: Count
    """Rows of the new crawls."""
    exceeded: bool


@dataclass(frozen=True)
class ClassChanges:
    """Classes of the champion and of the challenger, and labels of the new videos."""

    added: Annotated[tuple[str, ...], Field(alias="learnt_anew")]
    """Classes of the challenger only."""
    dropped: tuple[str, ...]
    """Classes of the champion only, as too few videos are left."""
    too_few: tuple[str, ...]
    """Labels of new videos that have too few videos to be classes."""
    not_seen: tuple[str, ...]
    """Classes of both that no new video has, if other new videos are labelled."""


@dataclass(frozen=True)
class DriftNote:
    """Drift of the new videos of a retraining."""

    champion: str
    """Folder of the champion's run."""
    crawls: Mapping[str, str]
    """Name of each crawl with new videos -> digest of its content."""
    figures: Mapping[str, Mapping[str, DriftFigure]]
    """Figures by subject (a modality, `files` or `labels`) and name."""
    exceeded: tuple[str, ...]
    """`SUBJECT.NAME` of the figures beyond their limits."""
    stopped: bool
    """Whether the retraining ended here."""
    settings: Annotated[Mapping[str, Any], _with_counts("min_rows")]
    """See `nmcl.pipeline.stages.drift.DriftSettings`."""
    diffs: Annotated[tuple[CrawlDiff, ...], Field(alias="news")]
    classes: Annotated[ClassChanges, Field(alias="venues")]
    when: str
    """Time in UTC, ISO 8601."""

    @property
    def flat(self) -> Iterator[tuple[str, str, DriftFigure]]:
        """Yield subject, name and figure."""
        for subject, figures in self.figures.items():
            for name, figure in figures.items():
                yield subject, name, figure


@dataclass(frozen=True)
class Slice:
    """Comparison of champion and challenger on the same test videos."""

    n_rows: Count
    champion: Mapping[str, float | None]
    """micro_f1 and macro_f1; empty without rows."""
    challenger: Mapping[str, float | None]
    gain: float | None
    """Macro-F1 of the challenger minus that of the champion."""
    interval: tuple[float, float] | None
    """95 % confidence interval of `gain`, by paired bootstrap."""
    wins: Count
    """Rows that only the challenger classified correctly."""
    losses: Count
    """Rows that only the champion classified correctly."""
    p_value: float | None
    """p-value of McNemar's exact test, two-sided."""


@dataclass(frozen=True)
class Agreement:
    """Chance-corrected agreement of labels and the champion's predictions."""

    n_rows: Count
    kappa: float | None
    """Cohen's kappa: 1 is full agreement, 0 is chance level; None without rows."""


@dataclass(frozen=True)
class NewClass:
    """Class that only the challenger knows."""

    n_rows: Count
    """Number of its test videos."""
    recall: float | None


@dataclass(frozen=True)
class ChangedVideo:
    """Test video that only one of champion and challenger classified correctly."""

    video_id: str
    crawl: str
    label: Annotated[str, Field(alias="venue")]
    champion: str
    """Class that the champion predicts, among those that both know."""
    challenger: str


@dataclass(frozen=True)
class Comparison:
    """Everything that the promotion rule uses."""

    frozen: Slice
    """The champion's test videos."""
    fresh: Slice
    """Test videos added since."""
    together: Slice
    trusted: Agreement
    """Agreement on the champion's test videos."""
    crawls: Mapping[str, Agreement]
    """Agreement on all labelled videos of each new crawl; the champion was trained on none of them."""
    new_classes: Annotated[Mapping[str, NewClass], Field(alias="new_venues")]
    changed: tuple[ChangedVideo, ...] = ()
    """The wins and losses of `together`; earlier versions did not write them."""


@dataclass(frozen=True)
class Verdict:
    """Result of the promotion rule."""

    promoted: bool
    reasons: tuple[str, ...]
    """One reason for each part of the rule that decided."""
    doubted: tuple[str, ...]
    """New crawls that later challengers are trained on only when they are named."""


@dataclass(frozen=True)
class ComparisonNote:
    """Comparison of champion and challenger, and the verdict."""

    champion: str
    """Folder of the champion's run."""
    challenger: str
    crawls: Mapping[str, str]
    """Name of each new crawl -> digest of its content."""
    comparison: Comparison
    verdict: Verdict
    rule: Mapping[str, Any]
    """See `nmcl.model.comparison.PromotionSettings`."""
    started_from: str | None
    """Folder of the run whose weights training started from."""
    refitted: bool
    """Whether the extractors were fitted again."""
    diffs: Annotated[tuple[CrawlDiff, ...], Field(alias="news")]
    when: str
    """Time in UTC, ISO 8601."""
