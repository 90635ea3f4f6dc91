"""What the README shows."""

import re
from pathlib import Path

import numpy as np

from nmcl.pipeline.extractor import Extractor
from nmcl.pipeline.records import State

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Its examples in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def example_extractor() -> Extractor:
    """The one under "Adding to it"."""
    code = next(block for block in blocks("python") if "class Brightness" in block)
    space: dict[str, object] = {"np": np, "State": State}
    exec(code, space)
    extractor: Extractor = space["Brightness"]()  # type: ignore[operator]
    return extractor
