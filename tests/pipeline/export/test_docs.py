"""docs/export.md: every format has an example that loads it."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nmcl.pipeline.export.files import write_export
from nmcl.pipeline.export.registry import FORMATS
from tests.pipeline.export.world import IDS, make_world

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
    lines = ["userID,video_id,timestamp,x_label", *(f"{n},{video_id},0,0" for n, video_id in enumerate(IDS))]
    Path("interactions.csv").write_text("\n".join(lines))
    space: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # examples leave closing to Python
        exec(EXAMPLES[name], space)
    assert len(space) > 2


def test_the_example_of_elliot_keeps_every_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export = make_world(tmp_path).export()
    write_export(export, "elliot", Path("features-elliot"))
    space: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    exec(EXAMPLES["elliot"], space)
    assert {name for name, _ in space["vectors"]} == {feature.name for feature in export.features}
    assert len(space["vectors"]) == len(list(Path("features-elliot").glob("*/*.npy")))


def test_interactions_of_mmrec_have_the_rows_of_the_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded as its `RecDataset` does."""
    monkeypatch.chdir(tmp_path)
    world = make_world(tmp_path)
    write_export(world.export(), "mmrec", Path("features-mmrec"))
    users = {"zebra": 7, "10": 5, "last": 7}
    lines = ["userID,video_id,timestamp,x_label", *(f"{user},{video_id},0,2" for video_id, user in users.items())]
    Path("interactions.csv").write_text("\n".join(lines))
    exec(EXAMPLES["mmrec"], {})
    columns = ["userID", "itemID", "x_label"]
    found = pd.read_csv("features-mmrec/features-mmrec.inter", usecols=columns, sep="\t")
    assert found.columns.isin(columns).all()
    images = np.load("features-mmrec/image_feat.npy")
    assert max(found["itemID"].values) + 1 == len(images)
    expected = world.expected("resnet", "completed")
    for video_id, user in users.items():
        (item,) = found["itemID"][(found["userID"] == user) & (found["itemID"] == IDS.index(video_id))]
        np.testing.assert_array_equal(images[item], expected[IDS.index(video_id)])
