"""docs/export.md: every format has an example that loads it."""

import re
import warnings
from pathlib import Path

import pytest

from nmcl.pipeline.export.files import write_export
from nmcl.pipeline.export.registry import FORMATS
from tests.pipeline.export.world import make_world

PAGE = (Path(__file__).resolve().parents[3] / "docs/export.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (\w+)\n.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


def test_every_format_has_an_example_and_a_row() -> None:
    assert [*EXAMPLES] == [*FORMATS] == re.findall(r"^\| \[`(\w+)`\]", PAGE, re.MULTILINE)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
@pytest.mark.parametrize("name", FORMATS)
def test_the_example_loads_the_export(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    write_export(make_world(tmp_path).export(), name, Path(FORMATS[name].default))
    space: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # examples leave closing to Python
        exec(EXAMPLES[name], space)
    assert len(space) > 2
