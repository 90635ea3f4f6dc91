"""Decoding limits, and which of them decide the output."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval

from nmcl.pipeline.addressing import Reference, Unhashed, hashed

AHEAD = 32
"""Decoded clips that wait for a network: some 50 MB."""

CODE_VERSION = 3
"""Version of the code, part of the address of all that uses frames and waveforms; raise it when decoded values
change."""


@dataclass(frozen=True)
class MediaSettings:
    """Frozen limits for one file. Those with a reference can change a vector; the others only protect the run."""

    timeout_s: Annotated[float, Interval(gt=0, le=86_400), Unhashed()] = 600.0
    """Wall-clock timeout for one file in seconds, after which its process is killed. The budget keeps real clips far
    below it."""
    max_seconds: Annotated[float, Interval(gt=0, le=86_400), Reference(180.0)] = 180.0
    """Only this many seconds from the start of a longer video are decoded."""
    max_pixels: Annotated[int, Ge(1), Reference(8192 * 4608)] = 8192 * 4608
    """Videos with larger frames are rejected: they would need gigabytes."""
    budget_megapixels: Annotated[int, Ge(1), Reference(12_000)] = 12_000
    """Decoding budget of one video, in megapixels of H.264 over all frames; other codecs count for more. Of a video
    over budget, only parts are decoded: the codec's key frames, or the beginning of each stretch between them. The
    default is 180 s of 1080p at 30 frames a second, or 15 s of 4K HEVC: about a minute of computing."""
    memory_mb: Annotated[int, Interval(ge=256, le=1 << 24), Unhashed()] = 4096
    """Address space of one decoding process, in MB."""
    workers: Annotated[int, Interval(ge=0, le=1024), Unhashed()] = 0
    """Number of decoding processes; 0 for one per core."""
    max_fetch_mb: Annotated[int, Interval(ge=1, le=1 << 24), Unhashed()] = 1024
    """Maximum size in MB of a file fetched from an object store; larger ones are listed as failures."""

    max_failed_share: Annotated[float, Interval(ge=0, le=1), Unhashed()] = 0.2
    """Share of videos with neither picture nor sound above which `run` and `extract` end with exit code 3."""

    def address(self) -> dict[str, object]:
        """Return everything that decides the frames and waveforms of a file, besides the file."""
        return {**hashed(self), "code_version": CODE_VERSION}
