"""Model of the processor, and the instructions that decide how fast networks are on it."""

import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "bfloat16": {"avx512_bf16", "amx_bf16"},
    "AMX": {"amx_tile"},
}
"""Name -> flags of Linux, of which one is enough."""


def model() -> str:
    """Return the model of the processor, or its architecture where the system does not say."""
    return _line("model name") or platform.machine()


def instructions() -> dict[str, bool] | None:
    """Return which of `INSTRUCTIONS` an x86 processor has; None for others, and where the system does not say."""
    flags = _line("flags")
    return {name: bool(any_of & set(flags.split())) for name, any_of in INSTRUCTIONS.items()} if flags else None


def _line(key: str) -> str:
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*:(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
