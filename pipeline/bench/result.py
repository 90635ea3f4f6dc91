"""Benchmark results: figures, ratios to floors or to other implementations, and the machine."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "torch", "opencv-python-headless", "av")
"""Libraries that do the heavy work."""


def machine() -> dict[str, Any]:
    """Return processor, cores and versions; nothing that identifies the machine."""
    cores = len(os.sched_getaffinity(0))
    versions = {name: version(name) for name in LIBRARIES}
    return {"processor": _processor(), "cores": cores, "python": platform.python_version(), **versions}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


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
