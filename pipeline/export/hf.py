"""A dataset folder for Hugging Face `datasets`: Parquet shards by split, and a card."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from nmcl.pipeline.export.card import card
from nmcl.pipeline.export.record import GROUPS, UNASSIGNED, Export, Written
from nmcl.pipeline.export.rows import blocks_of, parquet_writer
from nmcl.pipeline.records import Split

SHARD_BYTES = 1 << 29
"""Bytes in memory after which a new shard begins."""


def write(export: Export, folder: Path) -> Written:
    """Write `data/SPLIT-00000.parquet`, ..., and the card `README.md`, which names the shards of each split.

    The splits are `train`, `validation`, `test` and `unassigned`, without those that have no row.
    """
    (folder / "data").mkdir()
    present = [split for split in GROUPS if split in export.splits]
    shards = {split: _Shards(folder / "data", _name(split)) for split in present}
    for rows, table in blocks_of(export):
        splits = export.splits[rows]
        for split, shard in shards.items():
            shard.add(table.filter(pa.array([s == split for s in splits], pa.bool_())))
    for shard in shards.values():
        shard.close()
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in map(_name, present))
    head = f"configs:\n- config_name: default\n  data_files:\n{files}"
    (folder / "README.md").write_text(card(export, head), encoding="utf-8")
    return Written({f"column {feature.name}": feature.name for feature in export.features})


def _name(split: Split | None) -> str:
    return split or UNASSIGNED


class _Shards:
    """Numbered Parquet files with the rows of one split."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._n_files = self._n_bytes = 0
        self._file: Any = None

    def add(self, table: pa.Table) -> None:
        """Write rows into the present shard, or a new one if it is full."""
        if not len(table):
            return
        if self._file is None:
            path = self._folder / f"{self._name}-{self._n_files:05d}.parquet"
            self._file = parquet_writer(path, table.schema)
            self._n_files, self._n_bytes = self._n_files + 1, 0
        self._file.write_table(table)
        self._n_bytes += table.nbytes
        if self._n_bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """End the present shard."""
        if self._file is not None:
            self._file.close()
        self._file = None
