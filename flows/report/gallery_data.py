"""Data of a gallery. Reading it needs neither a store nor a model."""

from collections.abc import Sequence
from dataclasses import dataclass

from nmcl.flows.report.run_data import ShownVideo


@dataclass(frozen=True)
class GalleryVideo:
    """A video with what only a gallery shows of it."""

    shown: ShownVideo
    split: str | None
    address: str | None
    """URL of its file for the player; None if it is not on a disk of this machine, or for a gallery without media."""
    place: tuple[float, float] | None
    """Its point on the map; None if no modality is known, or it is not in the map's sample."""


@dataclass(frozen=True)
class Gallery:
    """All data of one gallery."""

    title: str
    source: str
    """What is shown: a run or a file of predictions."""
    created: str
    classes: Sequence[str]
    videos: Sequence[GalleryVideo]
    notes: tuple[str, ...] = ()
    """What the gallery lacks, and how to get it."""
