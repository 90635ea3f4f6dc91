"""A folder of `.pt` files for PyTorch, each a dict of tensors by id, without importing PyTorch."""

import struct
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nmcl.pipeline.export.pickles import PickleStream
from nmcl.pipeline.export.record import Export, FeatureSet, Written
from nmcl.pipeline.export.rows import write_rows

_ALIGNMENT = 64
"""Bytes at whose multiple the numbers begin in the file, as in those of `torch.save`, so that they can be mapped."""


def write(export: Export, folder: Path) -> Written:
    """Write `SET.pt` for each feature set: {id: tensor (D,)}, (T, D) with sequences, and `rows.parquet`."""
    for feature in export.features:
        write_tensors(folder / f"{feature.name}.pt", export.ids, feature)
    write_rows(export, folder)
    return Written({f"{feature.name}.pt": feature.name for feature in export.features})


def write_tensors(path: Path, ids: Sequence[str], feature: FeatureSet) -> None:
    """Write a dict of tensors that `torch.load(path, weights_only=True)` reads, too.

    All tensors are views of one storage, which is written as it is read. Clone one before you save it alone.
    """
    is_flat = feature.sequences is None
    with zipfile.ZipFile(path, "w") as archive:
        name = "archive/data/0"
        padding = -(30 + len(name) + 20 + 4) % _ALIGNMENT  # after the header, its 64-bit sizes, and the padding's own
        info = zipfile.ZipInfo(name)
        info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
        shapes: list[int] = []
        with archive.open(info, "w", force_zip64=True) as file:
            for block in feature.steps():
                shapes += map(len, block)
                file.write(np.concatenate(block).astype("<f4", copy=False).tobytes())
        with archive.open(zipfile.ZipInfo("archive/data.pkl"), "w") as file:
            _describe(PickleStream(file, 2), ids, shapes, feature.dim, is_flat)  # type: ignore[arg-type]
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")


def _describe(stream: PickleStream, ids: Iterable[str], lengths: Sequence[int], dim: int, is_flat: bool) -> None:
    """Write the pickle of a dict of tensors: each is rebuilt from a part of the storage."""
    start = 0
    stream.begin_dict()
    for video_id, length in zip(ids, lengths, strict=True):
        stream.text(video_id)
        stream.once("rebuild", lambda: stream.name("torch._utils", "_rebuild_tensor_v2"))
        stream.begin_tuple()
        stream.once("storage", lambda: _storage(stream, sum(lengths) * dim))
        stream.number(start)
        stream.numbers((dim,) if is_flat else (length, dim))
        stream.numbers((1,) if is_flat else (dim, 1))
        stream.false()
        stream.once("hooks", lambda: _no_hooks(stream))
        stream.end_tuple()
        stream.call()
        stream.item()
        start += length * dim
    stream.end()


def _storage(stream: PickleStream, n_values: int) -> None:
    stream.begin_tuple()
    stream.text("storage")
    stream.name("torch", "FloatStorage")
    stream.text("0")
    stream.text("cpu")
    stream.number(n_values)
    stream.end_tuple()
    stream.persistent()


def _no_hooks(stream: PickleStream) -> None:
    stream.name("collections", "OrderedDict")
    stream.numbers(())
    stream.call()
