"""The commands `nmcl export` and `nmcl extract CRAWL --export`, from videos without a label to files."""

import json
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from nmcl.pipeline.export.registry import FORMATS
from tests import tiny
from tests.flows.commands import nmcl
from tests.media import shades, tone, write_video

SETS = (
    "visual.backbone=efficientnet_lite0",
    "visual.sequence=true",
    "ingest.part_size=2",
    "acoustic.max_frames=100",
    "acoustic.autoencoder.epochs=0",
    "acoustic.autoencoder.fine_tune_epochs=0",
    "acoustic.autoencoder.min_steps=0",
    "textual.min_words=1000",
)


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    crawl = tmp_path_factory.mktemp("crawl") / "clips"
    crawl.mkdir()
    for i in range(4):
        write_video(crawl / f"{i}.mp4", shades([20 + i, 60], 4), sound=tone(300, 0.8) if i else None)
    return crawl


def test_from_unlabelled_videos_to_files(unlabelled: Path, tmp_path: Path) -> None:
    sets = [word for assignment in SETS for word in ("--set", assignment)]
    out, file = tmp_path / "out", tmp_path / "features.parquet"
    command = ["extract", unlabelled, "--out", out, *sets, "--export", f"parquet={file}"]
    said = nmcl(*command, PREFECT_HOME=str(tmp_path / "prefect")).stdout
    assert "Missing vectors are zeros" in said
    assert not (tmp_path / "prefect").exists()
    table = pq.read_table(file)
    assert sorted(table.column("video_id").to_pylist()) == ["0", "1", "2", "3"]
    silent = table.column("video_id").to_pylist().index("0")
    assert table.column("acoustic_observed").to_pylist() == [n != silent for n in range(4)]
    assert not np.any(table.column("acoustic").to_pylist()[silent])
    made_with = {
        name: {*feature["made_with"]}
        for name, feature in json.loads((tmp_path / "features.parquet.recipe.json").read_text())["features"].items()
    }
    assert made_with["visual"] >= {"torch", "openvino", "efficientnet-lite-pytorch", "av", "opencv-python-headless"}
    assert made_with["acoustic"] >= {"torch", "librosa", "scipy", "av", "nmcl", "numpy", "python"}
    assert "gensim" in made_with["textual"]
    assert "wordllama" in made_with["words"]
    first = file.read_bytes()
    nmcl(*command)
    assert file.read_bytes() == first
    assert "replace it with --force" in nmcl("export", "--out", out, "--format", "parquet", "--to", file, code=2).stderr
    dry = nmcl("export", "--out", out, "--format", "torch", "--to", tmp_path / "t", "--sequences", "--dry-run").stdout
    assert "Would be written as torch" in dry
    assert not (tmp_path / "t").exists()
    nmcl("export", "--out", out, "--format", "torch", "--to", tmp_path / "t", "--sequences", "--features", "visual")
    recipe = json.loads((tmp_path / "t/recipe.json").read_text())
    assert recipe["features"]["visual"]["longest_sequence"] > 1
    assert [*recipe["features"]] == ["visual"]
    mmsa = ["export", "--out", str(out), "--format", "mmsa", "--to", str(tmp_path / "m.pkl")]
    said = CliRunner().invoke(app, [*mmsa, "--dry-run"]).output
    assert not (tmp_path / "m.pkl").exists()
    assert CliRunner().invoke(app, mmsa).exit_code == 0
    splits = pickle.loads((tmp_path / "m.pkl").read_bytes()).values()
    arrays = [part[name] for part in splits for name in ("text", "audio", "vision")]
    longest = max(array.shape[1] for array in arrays)
    assert f"text 1 x 100, audio 1 x 200, vision {longest} x 1,280 numbers per video" in said
    assert f": {sum(array.nbytes for array in arrays) / 1e6:.1f} MB, which MMSA holds in memory." in said
    assert "is a URL; exports are written to" in str(CliRunner().invoke(app, [*mmsa[:-1], "s3://b/m.pkl"]).exception)


def test_models_by_name_and_named_dimensions(unlabelled: Path, tmp_path: Path) -> None:
    """Five sets of four models, two picture sizes and one sound rate; the clips have no description."""
    (model, weights), (tagger, classes) = tiny.timm_model(), tiny.tagger()
    settings = {
        **{f"{name}.extractor": '"none"' for name in ("visual", "acoustic", "textual", "ngrams")},
        "pictures.extractor": f"timm:{model}",
        "pictures.weights": weights,
        "clip.extractor": f"st:{tiny.clip_model()}",
        "clip.modality": "visual",
        "clip.key_frames": 3,
        "words.extractor": f"st:{tiny.sentence_model()}",
        "tags.extractor": "tagger",
        "tags.weights": tagger,
        "tags.classes": classes,
    }
    sets = [word for name, value in settings.items() for word in ("--set", f"features.{name}={value}")]
    nmcl("extract", unlabelled, "--out", tmp_path / "out", *sets, "--export", f"csv={tmp_path / 'features.csv'}")
    table = pd.read_csv(tmp_path / "features.csv", dtype={"video_id": str}).set_index("video_id")
    tags = [f"tags_{name}" for name in ("Speech", "Male speech, man speaking", "Music", "Violin", "Silence")]
    assert [column for column in table if column.startswith("tags_") and column != "tags_observed"] == tags
    assert table["tags_observed"].to_dict() == {"0": False, "1": True, "2": True, "3": True}
    assert table.loc["1":, tags].gt(0).all(axis=None)
    assert table.loc["1":, tags].lt(1).all(axis=None)
    assert table["pictures_observed"].all()
    assert table["clip_observed"].all()
    assert not table["words_observed"].any()
    lengths = Counter(found[1] for column in table if (found := re.fullmatch(r"(\w+)_\d+", column)))
    assert lengths == {"pictures": 64, "clip": 24, "words": 32}


def test_the_help_lists_the_formats() -> None:
    words = " ".join(CliRunner().invoke(app, ["export", "--help"], env={"COLUMNS": "200"}).output.split())
    assert f"One of {', '.join(FORMATS)}: see docs/export.md" in words.replace("│ │ ", "")


def test_a_wrong_export_is_refused_before_anything_is_done(unlabelled: Path, tmp_path: Path) -> None:
    done = nmcl("extract", unlabelled, "--out", tmp_path / "out", "--export", "parket=x", code=2)
    assert "Did you mean parquet?" in done.stderr
    assert not (tmp_path / "out").exists()
    assert (
        "expected one of completed, zero, nan"
        in nmcl("export", "--out", tmp_path, "--format", "npz", "--missing", "none", code=2).stderr
    )
