"""A store with other feature sets than the paper's three, from extraction to prediction."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import merged
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.store import Store

SETS = {
    "acoustic": {"extractor": "none"},
    "frames": {"extractor": "efficientnet_lite0", "weights": "random", "sequence": True},
    "words": {"extractor": "paragraph_vectors", "dim": 12, "min_words": 1000},
}
NAMES = ["visual", "textual", "frames", "words"]


def nmcl(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.stderr, done.exception)
    return done.output


@pytest.fixture(scope="module")
def out(small_crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run on four sets."""
    out = tmp_path_factory.mktemp("sets") / "out"
    remember(Store.create(out), from_tree(merged(to_tree(quick), {"features": SETS})))
    nmcl("ingest", small_crawl, "--out", out)
    nmcl("evaluate", "--out", out)
    return out


def test_every_set_is_extracted_completed_and_used(out: Path) -> None:
    assert sorted(path.name.rsplit("-", 1)[0] for path in (out / "features").iterdir()) == sorted(NAMES)
    (folder,) = (out / "completed").iterdir()
    tables = [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    for table in tables:
        assert set(table.column_names) == {"video_id", *(c for name in NAMES for c in (name, f"{name}_observed"))}
    model = json.loads((out / "latest" / "model.json").read_text())
    assert model["dims"] == {"frames": 1280, "textual": 100, "visual": 1280, "words": 12}
    assert set(json.loads((out / "latest" / "metrics.json").read_text())["modality"]) == set(NAMES)


def test_one_decode_gave_both_networks_the_same_frames(out: Path) -> None:
    first, other = (sorted((out / "features").glob(f"{name}-*"))[0] for name in ("visual", "frames"))
    for path in sorted(first.glob("part-*.parquet")):
        tables = [pq.read_table(folder / path.name) for folder in (first, other)]
        assert tables[0].column("key_frames_s") == tables[1].column("key_frames_s")
        for vector, sequence in zip(*(tables[1].column(c).to_pylist() for c in ("vector", "sequence")), strict=True):
            assert (vector is None) == (sequence is None)
            if vector is not None:
                np.testing.assert_allclose(np.mean(sequence, axis=0), vector, rtol=1e-4, atol=1e-5)


def test_it_is_verified_and_predicts(out: Path, small_crawl: Path, tmp_path: Path) -> None:
    nmcl("verify", "--out", out)  # exits with 6 if it finds anything
    nmcl("predict", small_crawl, "--model", out, "--out", tmp_path / "venues.parquet")
    predicted = pq.read_table(tmp_path / "venues.parquet").to_pydict()
    own = pq.read_table(out / "latest" / "predictions.parquet").to_pydict()
    assert predicted["video_id"] == own["video_id"]
    assert predicted["venue_1"] == own["venue_1"]
