"""Tar shards for WebDataset: `NAME.npz` and `NAME.json` for each video."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from nmcl.pipeline.export.arrays import write_npy
from nmcl.pipeline.export.names import safe_names
from nmcl.pipeline.export.record import GROUPS, UNASSIGNED, Export, Written
from nmcl.pipeline.export.rows import observed_name, text_of, write_rows
from nmcl.pipeline.text import counted

SHARD_ROWS = 10_000
"""Videos in a shard."""


def write(export: Export, folder: Path) -> Written:
    """Write `SPLIT-000000.tar`, ...: of each video the vectors by feature set, and its id, path, label and masks.

    The splits are `train`, `validation`, `test` and `unassigned`. A name is the id, or a safe form of it.
    """
    names = safe_names(export.ids)
    n_done = dict.fromkeys(GROUPS, 0)
    with ExitStack() as stack:
        open_shards: dict[object, tarfile.TarFile] = {}
        for row, vectors in _rows(export):
            split = export.splits[row]
            shard, place = divmod(n_done[split], SHARD_ROWS)
            if place == 0:
                if split in open_shards:
                    open_shards[split].close()
                path = folder / f"{split or UNASSIGNED}-{shard:06d}.tar"
                open_shards[split] = stack.enter_context(tarfile.open(path, "w", format=tarfile.USTAR_FORMAT))
            _add(open_shards[split], f"{names[row]}.json", _json(export, row))
            _add(open_shards[split], f"{names[row]}.npz", _npz(vectors))
            n_done[split] += 1
    write_rows(export, folder, file=names)
    n_changed = sum(name != video_id for name, video_id in zip(names, export.ids, strict=True))
    note = f"{counted(n_changed, 'id')} cannot be keys: `video_id` in the JSON has the id."
    return Written({f"NAME.npz: {f.name}": f.name for f in export.features}, (note,) if n_changed else ())


def _rows(export: Export) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    row = 0
    for blocks in zip(*(feature.blocks() for feature in export.features), strict=True):
        for vectors in zip(*blocks, strict=True):
            yield row, {feature.name: vector for feature, vector in zip(export.features, vectors, strict=True)}
            row += 1


def _json(export: Export, row: int) -> bytes:
    text = {name: values[0] for name, values in text_of(export, slice(row, row + 1)).items()}
    masks = {observed_name(feature.name): bool(feature.observed[row]) for feature in export.features}
    return json.dumps({**text, **masks}, ensure_ascii=False).encode()


def _npz(vectors: Mapping[str, np.ndarray]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, vector in vectors.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:  # dated 1980, always
                write_npy(file, vector.shape, "<f4", [vector])  # type: ignore[arg-type]  # a file for writing only
    return data.getvalue()


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # dated 1970, always
    info.size = len(data)
    shard.addfile(info, io.BytesIO(data))
