"""What a report shows beside the metrics of its run: nothing that needs a store or a model to be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nmcl.model.evaluate import Evaluation
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.failures import Failure
from nmcl.pipeline.storage.run_files import Metrics

if TYPE_CHECKING:
    from nmcl.model.base import Epoch  # brings torch


@dataclass(frozen=True)
class Example:
    """One test video and its most probable classes."""

    video: Video
    guesses: tuple[tuple[str, float], ...]
    """Class and probability, most probable first."""


@dataclass(frozen=True)
class ReportData:
    """All that one report shows."""

    title: str
    created: str
    """Shown as it is."""
    metrics: Metrics
    test: Evaluation | None = None
    history: Sequence["Epoch"] = ()
    examples: Sequence[Example] = ()
    failures: Sequence[tuple[Video, Failure]] = ()
    """May be the first few only."""
    command: str | None = None
    """The command line that repeats this run."""
    champion: str | None = None
    """Which run was the champion when the page was written, in words."""
    is_challenger: bool = False
    """Whether a page about its comparison with the champion is next to this one."""
    is_sample: bool = False
    """The videos were rendered by `nmcl`, not filmed."""
