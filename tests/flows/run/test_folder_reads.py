"""Folders of vectors, completed vectors and failures are read by other programs as they are."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from nmcl.flows.run import runs
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings
from nmcl.pipeline.stages.vectors import load_vectors
from nmcl.pipeline.stages.verify import repair, verify
from nmcl.pipeline.storage.store import Store
from tests.flows.conftest import made

READERS: dict[str, Callable[[str], pa.Table]] = {
    "pandas": lambda folder: pa.Table.from_pandas(pd.read_parquet(folder), preserve_index=False),
    "polars": lambda folder: pl.read_parquet(f"{folder}/").to_arrow(),
    "polars, without slash": lambda folder: pl.read_parquet(folder).to_arrow(),
    "polars, lazily": lambda folder: pl.scan_parquet(f"{folder}/").collect().to_arrow(),
    "pyarrow.dataset": lambda folder: ds.dataset(folder).to_table(),
    "pyarrow.parquet": pq.read_table,
    "duckdb": lambda folder: duckdb.sql(f"FROM read_parquet('{folder}')").to_arrow_table(),
    "duckdb, a pattern": lambda folder: duckdb.sql(f"FROM read_parquet('{folder}/*.parquet')").to_arrow_table(),
}


@pytest.mark.parametrize("kind", ["features/visual", "features/acoustic", "features/textual"])
@pytest.mark.parametrize("reader", READERS)
def test_vectors(reader: str, kind: str, trained: Path, quick: Settings) -> None:
    plan = Context(Store.open(trained), quick).plan()
    artifact = plan.features[kind.split("/")[1]]
    parts = [part for _, part in plan.catalogue.parts()]
    vectors = np.concatenate([load_vectors(plan.store, artifact, part) for part in parts])
    known = {video.video_id: vector for video, vector in zip(plan.videos, vectors, strict=True)}
    table = READERS[reader](str(trained / artifact.folder))
    assert len(parts) == 7
    assert sorted(table.column("video_id").to_pylist()) == sorted(known)
    for row in table.select(["video_id", "vector"]).to_pylist():
        expected = known[row["video_id"]]
        np.testing.assert_array_equal(
            np.full_like(expected, np.nan) if row["vector"] is None else np.asarray(row["vector"], np.float32), expected
        )


@pytest.mark.parametrize("kind", ["completed/all-*", "failures/media-*"])
@pytest.mark.parametrize("reader", READERS)
def test_completed_vectors_and_failures(reader: str, kind: str, trained: Path) -> None:
    (folder,) = trained.glob(kind)
    parts = [pq.read_table(path) for path in sorted(folder.iterdir())]
    table = READERS[reader](str(folder))
    assert table.column_names == parts[0].column_names
    assert len(table) == sum(map(len, parts))
    assert set(table.column("video_id").to_pylist()) == {
        name for part in parts for name in part["video_id"].to_pylist()
    }


@pytest.mark.parametrize("pattern", ["features/visual-*/part-*.parquet", "metadata/features/visual-*/recipe.json"])
def test_damage_is_found_and_repaired(pattern: str, trained: Path, quick: Settings, tmp_path: Path) -> None:
    out = shutil.copytree(trained, tmp_path / "out", symlinks=True)
    before = made(store := Store.open(out))
    assert verify(store, 0).problems == []
    path = sorted(out.glob(pattern))[0]
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 8]) + data[-8:])
    (problem, *_) = (findings := verify(store, 0)).problems
    assert problem.file == str(path.relative_to(out))
    repair(store, findings)
    assert not path.exists()
    runs.up_to(Context(store, quick), "evaluate")
    assert made(store) == before
    assert path.read_bytes() == data
    assert verify(store, 0).problems == []


def test_every_version_of_a_feature_set(trained: Path) -> None:
    pattern = trained / "features" / "visual-*" / "*.parquet"
    assert len(duckdb.sql(f"FROM read_parquet('{pattern}')").fetchall()) == 14
