"""`nmcl features`: the registry of extractors."""

import json

from typer.testing import CliRunner

from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows.cli.main import app


def test_every_extractor_is_listed() -> None:
    done = CliRunner().invoke(app, ["features", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == EXTRACTORS.keys()
    assert {row["modality"] for row in rows.values()} == {"visual", "acoustic", "textual"}
    assert [rows[name]["dim"] for name in ("resnet50", "sda", "paragraph_vectors", "wordllama")] == [
        2048,
        200,
        100,
        256,
    ]
    assert rows["timm"]["dim"] == 768
    assert rows["wordllama"]["licence"] == "MIT"
    assert rows["efficientnet_lite0"]["weights"] == "here"
    assert rows["sda"]["weights"] == "fitted on the crawl"
