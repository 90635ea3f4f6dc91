"""Makes the terminal pictures of docs/ask.md: `python -m tests.terminal STORE VIDEO`, where VIDEO is the example."""

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from unittest import mock

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from nmcl.flows import console
from nmcl.flows.cli.main import app

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
WIDTH = 100
_FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
"""Rich's template loads fonts from the network."""


def commands(store: str, video: str) -> dict[str, list[str]]:
    """Return the command of each picture."""
    out = ["--out", store]
    return {
        "status": ["status", *out],
        "explain": ["explain", video, *out],
        "similar": ["similar", video, *out, "-n", "5"],
        "compare": ["compare", "champion", "logistic", *out],
        "du": ["du", *out],
        "gc": ["gc", *out, "--dry-run"],
        "settings": ["settings", "split", *out],
        "doctor": ["doctor"],
    }


def picture(words: Sequence[str]) -> str:
    """Return what a command prints, as an SVG picture that loads nothing."""
    recording = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    line = " ".join(["nmcl", *words])
    recording.print(f"$ {line}", style="bold", markup=False)
    with mock.patch.multiple(console, _out=recording, _err=recording), suppress(SystemExit):
        app(list(words))
    return recording.export_svg(title=line, code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))


def main(store: str, video: str) -> None:
    """Write all pictures of a store, which is named by its last folder in them."""
    os.chdir(Path(store).resolve().parent)
    FOLDER.mkdir(exist_ok=True)
    for name, words in commands(Path(store).name, video).items():
        (FOLDER / f"{name}.svg").write_text(picture(words), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
