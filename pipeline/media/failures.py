"""Conversion of decoding errors to a ClipError with reproducible text."""

import re
import traceback
from pathlib import Path

from nmcl.pipeline.errors import ClipError


def clip_error(error: Exception, memory_mb: int) -> ClipError:
    """Return a typed failure for any exception; `internal` for unexpected ones."""
    if isinstance(error, ClipError):
        return error
    if isinstance(error, MemoryError):
        return out_of_memory(memory_mb)
    if type(error).__module__ == "builtins" and isinstance(error, OSError):
        return ClipError("missing", f"the file cannot be read ({error.strerror})")
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "nowhere"
    message = stable(str(getattr(error, "strerror", None) or error))
    trace = "".join(traceback.format_exception(error))
    return ClipError("internal", f"{type(error).__name__}: {message} ({where})", trace)


def out_of_memory(memory_mb: int) -> ClipError:
    """Return the failure of a file that exceeds a decoding process's memory limit."""
    return ClipError("too_large", f"needs more than {memory_mb} MiB to decode")


def stable(text: str) -> str:
    """Return a message without memory addresses and folders, which differ from run to run."""
    text = re.sub(r"\[([^\]@]*?)\s*@ 0x[0-9a-f]+\]", r"[\1]", text)
    text = re.sub(r"\b0x[0-9a-f]{6,}\b", "0x…", text)
    return re.sub(r"(?:file:)?(?:/[^\s/:'\"]+)+/", "", text)
