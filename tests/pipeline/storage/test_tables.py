"""Tests of the Parquet files of a store."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage.tables import SEQUENCE, decode, encode, from_sequences, from_vectors, to_sequences

READING = """
import os
import pyarrow as pa
from nmcl.pipeline.storage.tables import decode, encode
data = encode(pa.table({"number": list(range(100_000)), "name": [str(i) for i in range(100_000)]}))
n_before = len(os.listdir("/proc/self/task"))
decode(data, "some.parquet")
print(len(os.listdir("/proc/self/task")) - n_before)
"""


def test_reading_starts_no_thread() -> None:
    """A thread of Arrow that frees Python's bytes aborts the interpreter if that is just ending."""
    run = subprocess.run([sys.executable, "-c", READING], capture_output=True, text=True, check=True)
    assert run.stdout == "0\n"


@given(st.lists(st.none() | st.integers(1, 5), max_size=6), st.integers(1, 4))
def test_sequences_come_back_as_they_were(lengths: list[int | None], dim: int) -> None:
    rng = np.random.default_rng(0)
    sequences = [None if n is None else rng.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    column = from_sequences(sequences, dim)
    column.validate(full=True)
    assert column.to_pylist() == [None if s is None else s.tolist() for s in sequences]
    found = to_sequences(pa.chunked_array([column]))
    assert [None if s is None else (s.shape, s.tobytes()) for s in found] == [
        None if s is None else (s.shape, s.tobytes()) for s in sequences
    ]


def _part(sequence: pa.Array) -> bytes:
    vectors = from_vectors(np.ones((len(sequence), 2), np.float32))
    ids = pa.array([str(i) for i in range(len(sequence))])
    return encode(pa.table({"video_id": ids, "vector": vectors, SEQUENCE: sequence}))


def test_sequences_of_another_shape_are_named() -> None:
    whole = from_sequences([np.ones((3, 2), np.float32), None], 2)
    assert decode(_part(whole), "features/visual-1/part-1.parquet").num_rows == 2
    infinite = from_sequences([np.full((3, 2), np.inf, np.float32), None], 2)
    for wrong in (infinite, pa.array([[1.0], None], pa.list_(pa.float32())), pa.array([None, None])):
        with pytest.raises(StoreError, match=r"part-1\.parquet is damaged .*'sequence'"):
            decode(_part(wrong), "features/visual-1/part-1.parquet")
