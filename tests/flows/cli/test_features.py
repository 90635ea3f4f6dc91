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
    assert [(rows[name]["dim"], rows[name]["size_mb"]) for name in ("timm", "st")] == [(None, None)] * 2
    assert rows["wordllama"]["licence"] == "MIT"
    assert rows["efficientnet_lite0"]["weights"] == "here"
    assert rows["sda"]["weights"] == "fitted on the crawl"


def test_the_table_fits_eighty_columns_and_cuts_nothing() -> None:
    done = CliRunner().invoke(app, ["features"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in done.stdout
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines if line.startswith("│")]
    texts: dict[str, list[str]] = {}
    name = ""
    for row in cells:
        name = row[0] or name
        texts.setdefault(name, [""] * len(row))
        texts[name] = [before + cell.replace(" ", "") for before, cell in zip(texts[name], row, strict=True)]
    assert texts.keys() == EXTRACTORS.keys()
    for name, entry in EXTRACTORS.items():
        assert texts[name][4] == entry.weights().replace(" ", "")
        assert texts[name][5] == ", ".join(filter(None, (entry.source, entry.licence))).replace(" ", "")
    assert texts["timm"][2:4] == ["–", "–"]
    assert texts["resnet50"][2:4] == ["2,048", "98"]
