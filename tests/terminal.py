"""Makes the terminal pictures of docs/ask.md: `python -m tests.terminal`."""

import io
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from imageio_ffmpeg import get_ffmpeg_exe
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from nmcl.flows import console
from nmcl.flows.cli.main import app
from nmcl.pipeline.storage.store import CHAMPIONS
from tests.flows.run.earlier import unpacked

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
PLACE = Path(tempfile.gettempdir()) / "nmcl"
"""Folder of the store: the same each time, as it is in the pictures."""
WIDTH = 100
_FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
"""Rich's template loads fonts from the network."""

COMMANDS = {
    "status": "status --out out",
    "explain": "explain v0009 --out out",
    "similar": "similar v0003 --out out -n 5",
    "compare": "compare champion logistic --out out",
    "du": "du --out out",
    "gc": "gc --out out --run logistic --dry-run",
    "settings": "settings split --out out",
    "doctor": "doctor",
}
"""Command of each picture."""


class _Recording(Console):
    """Console that wraps long lines, as a terminal does."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **{**options, "soft_wrap": False})


def picture(words: str) -> str:
    """Return what a command prints, as an SVG picture that loads nothing."""
    recording = _Recording(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    line = f"nmcl {words}"
    recording.print(f"$ {line}", style="bold", markup=False)
    with mock.patch.object(console, "_out", recording), suppress(SystemExit):
        app(words.split())
    return recording.export_svg(title=line, code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))


def main() -> None:
    """Write all pictures, of a store of an early version with two runs."""
    FOLDER.mkdir(exist_ok=True)
    PLACE.mkdir()
    try:
        store = unpacked(PLACE)
        found = store.read_json(CHAMPIONS)
        store.write_json(CHAMPIONS, {**found, "history": found["history"][-1:]})  # so that gc has a run to remove
        (PLACE / "ffmpeg").symlink_to(get_ffmpeg_exe())
        os.environ["IMAGEIO_FFMPEG_EXE"] = str(PLACE / "ffmpeg")  # doctor shows its path
        os.chdir(PLACE)
        for name, words in COMMANDS.items():
            (FOLDER / f"{name}.svg").write_text(picture(words), encoding="utf-8")
    finally:
        shutil.rmtree(PLACE)


if __name__ == "__main__":
    main()
