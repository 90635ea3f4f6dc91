"""README and docs, and the examples in them."""

import re
from pathlib import Path

from nmcl.pipeline.extractor import Extractor

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path: path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
README = PAGES[ROOT / "README.md"]
PROSE = "\n".join([README, *(text for path, text in PAGES.items() if path.parent != ROOT and path.name != "cli.md")])
"""README and docs, without the generated reference."""


def blocks(language: str) -> list[str]:
    """Examples in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PROSE, re.DOTALL)


def example_extractor() -> Extractor:
    """The extractor of docs/extending.md."""
    code = next(block for block in blocks("python") if "class Brightness" in block)
    space: dict[str, object] = {}
    exec(code, space)
    extractor: Extractor = space["Brightness"]()  # type: ignore[operator]
    return extractor
