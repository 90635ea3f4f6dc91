"""Benchmark results: figures, ratios to floors or to other implementations, and the machine."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from nmcl.pipeline import processor

LIBRARIES = ("numpy", "torch", "opencv-python-headless", "av")
"""Libraries that do the heavy work."""


def machine() -> dict[str, Any]:
    """Return processor, its instructions, cores and versions; nothing that identifies the machine."""
    has = processor.instructions()
    return {
        "processor": processor.model(),
        "instructions": None if has is None else [name for name, is_there in has.items() if is_there],
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


@dataclass(frozen=True)
class Result:
    """Result of one benchmark; as JSON it is an object of these fields."""

    figures: dict[str, float]
    """Measured values, with the unit at the end of each name."""
    ratios: dict[str, float]
    """`to_floor`: time over the least possible time; `vs_X`: our cost over that of X."""
    notes: Sequence[str] = ()
    """Caveats for the reader: reduced sizes, synthetic inputs, what a floor counts."""
    machine: dict[str, Any] = field(default_factory=machine)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, with the notes in the figures, so that none is shown without them."""
        return {
            "figures": {**self.figures, "notes": list(self.notes)},
            "ratios": self.ratios,
            "machine": self.machine,
        }
