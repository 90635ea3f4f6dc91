"""The terminal pictures of docs/ask.md."""

import re
from pathlib import Path
from xml.etree import ElementTree

from tests.flows.run.earlier import unpacked
from tests.terminal import COMMANDS, FOLDER, picture

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ask.md"


def test_a_picture_shows_what_the_command_prints_and_loads_nothing(tmp_path: Path) -> None:
    store = unpacked(tmp_path)
    drawn = picture(f"similar v0003 --out {store.url} -n 2")
    shown = "".join(ElementTree.fromstring(drawn).itertext())
    for words in ("$ nmcl similar v0003", "distance", "monday/v0023", "Street"):
        assert words in shown.replace("\xa0", " ")
    assert not re.search(r"url\((?!#)|@import|href=\"http", drawn)


def test_the_page_shows_every_picture() -> None:
    names = set(re.findall(r"\]\(pictures/(\w+)\.svg\)", PAGE.read_text()))
    assert names == COMMANDS.keys()
    for name in names:
        shown = "".join(ElementTree.parse(FOLDER / f"{name}.svg").getroot().itertext()).replace("\xa0", " ")
        assert f"$ nmcl {name}" in shown
