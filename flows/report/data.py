"""Data of a report besides the metrics of its run. Reading it needs neither a store nor a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmcl.model.evaluate import Evaluation
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.failures import Failure
from nmcl.pipeline.storage.run_files import Metrics

if TYPE_CHECKING:
    from nmcl.model.base import Epoch  # imports torch


@dataclass(frozen=True)
class Example:
    """A test video and its most probable classes."""

    video: Video
    guesses: tuple[tuple[str, float], ...]
    """Pairs of class and probability, most probable first."""


@dataclass(frozen=True)
class ReportData:
    """All data of one report."""

    title: str
    created: str
    """Date as displayed."""
    metrics: Metrics
    test: Evaluation | None = None
    history: Sequence["Epoch"] = ()
    examples: Sequence[Example] = ()
    failures: Sequence[tuple[Video, Failure]] = ()
    """Failed videos; may be only the first few."""
    command: str | None = None
    """Command line that repeats this run."""
    champion: str | None = None
    """Sentence that names the champion at the time of writing."""
    is_challenger: bool = False
    """Whether there is a page about the comparison with the champion next to this one."""
    is_sample: bool = False
    """Whether the videos were rendered by `nmcl`, not filmed."""
