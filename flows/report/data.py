"""What a report tells: names, numbers and arrays, nothing that needs a store or a model to be read.

Shares and scores are 0..1. None means that a value is not defined or was not measured; the page shows a dash.
K is the number of venues.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nmcl.model.study.results import Curve


@dataclass(frozen=True)
class Scores:
    """How good one method or modality is on the test videos."""

    micro_f1: float | None = None
    macro_f1: float | None = None


@dataclass(frozen=True)
class SplitScores:
    """How good the model is on one split."""

    n_rows: int = 0
    micro_f1: float | None = None
    macro_f1: float | None = None
    top5_accuracy: float | None = None
    auc_micro: float | None = None
    auc_macro: float | None = None
    log_loss: float | None = None
    """Nats."""


@dataclass(frozen=True)
class Counts:
    """What became of the videos of the crawl."""

    videos: int | None = None
    failed: int | None = None
    partial: int | None = None
    """Picture or sound failed, and the rest decides."""
    duplicates: int | None = None
    unlabelled: int | None = None
    set_aside: int | None = None
    """Labelled, but of a venue with too few videos."""
    train: int | None = None
    validation: int | None = None
    test: int | None = None


@dataclass(frozen=True)
class Completion:
    """How missing modalities were filled in."""

    method: str
    """The completer that was used."""
    nrmse: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Completer -> modality -> error on held-out blocks; 1 is as good as the mean of the training videos."""


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curves; scores are those of the validation videos."""

    number: int
    loss: float | None = None
    """Training, nats."""
    validation_loss: float | None = None
    """Nats."""
    micro_f1: float | None = None
    macro_f1: float | None = None
    per_modality: Mapping[str, Scores] = field(default_factory=dict)


@dataclass(frozen=True)
class VenueRow:
    """How good the model is at one venue, on the test videos."""

    venue: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Test videos of this venue."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be used."""

    video_id: str
    path: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Gate:
    """Where the gates between consistent and complementary stand in one modality; the shares add up to 1."""

    name: str
    open: float
    undecided: float
    shut: float


@dataclass(frozen=True)
class Example:
    """One test video and what the model makes of it."""

    video_id: str
    venue: str
    guesses: tuple[tuple[str, float], ...]
    """Venue and probability, most probable first."""
    description: str | None = None
    thumbnail: bytes | None = None
    """JPEG, a few kB."""


@dataclass(frozen=True)
class ReportData:
    """All that one report tells. Only a title, a date and the names of the venues are needed."""

    title: str
    created: str
    """Shown as it is."""
    venues: Sequence[str]
    """K names."""
    test: SplitScores = SplitScores()
    validation: SplitScores | None = None
    modalities: Mapping[str, Scores] = field(default_factory=dict)
    """Each modality alone, by name."""
    methods: Mapping[str, Scores] = field(default_factory=dict)
    """Other methods on the same videos, by name."""
    counts: Counts = Counts()
    missing: Mapping[str, int] = field(default_factory=dict)
    """Modality -> usable videos that lack it."""
    completion: Completion | None = None
    confusion: np.ndarray | None = None
    """(K, K), integers: test videos by true venue (row) and predicted venue (column)."""
    roc: Mapping[str, Curve] = field(default_factory=dict)
    """By name, such as `micro` and `macro`."""
    history: Sequence[Epoch] = ()
    per_venue: Sequence[VenueRow] = ()
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """Venues with too few videos -> how many they have."""
    gates: Sequence[Gate] = ()
    examples: Sequence[Example] = ()
    failures: Sequence[Failure] = ()
    """May be the first few only: `counts.failed` has the number."""
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    """Stage -> wall-clock time."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON values, nested as in the settings file."""
    command: str | None = None
    """The command line that makes this run again."""
    notices: Sequence[str] = ()
    """What the reader must know before believing a number."""
    champion: str | None = None
    """Which run was the champion when the page was written, in words."""
    is_challenger: bool = False
    """Whether a page about its comparison with the champion lies beside this one."""
    is_sample: bool = False
    """The videos were rendered by `nmcl`, not filmed."""
