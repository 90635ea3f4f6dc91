"""Packages that may be absent."""

import importlib.util
import sys
from typing import Any

import pyarrow as pa

from nmcl.pipeline.errors import UserError


def require(module: str, extra: str, purpose: str) -> None:
    """Raise UserError with the install command if a module of an extra is not installed.

    Args:
        extra: Name of the extra in pyproject.toml.
        purpose: What needs it, the subject of the sentence.
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"{purpose} needs the package {module}, which is not installed. Install it: "
            f"{sys.executable} -m pip install 'nmcl[{extra}]'"
        )


def to_pandas(table: pa.Table) -> Any:
    """Return a table as a pandas data frame.

    Raises:
        UserError: If pandas is not installed.
    """
    require("pandas", "pandas", "to_pandas")
    return table.to_pandas()
