"""Packages that may be absent."""

import importlib.util
import sys

from nmcl.pipeline.errors import UserError


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    return importlib.util.find_spec(module) is not None


def require(module: str, extra: str, purpose: str) -> None:
    """Raise UserError with the install command if a module of an extra is not installed.

    Args:
        extra: Name of the extra in pyproject.toml.
        purpose: What needs it, the subject of the sentence.
    """
    if not is_installed(module):
        raise UserError(
            f"{purpose} needs the package {module}, which is not installed. Install it: "
            f"{sys.executable} -m pip install 'nmcl[{extra}]'"
        )
