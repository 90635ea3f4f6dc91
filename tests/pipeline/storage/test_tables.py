"""Tests of the Parquet files of a store."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage.tables import (
    SEQUENCE,
    TermRow,
    decode,
    encode,
    from_sequences,
    from_vectors,
    to_sequences,
    to_terms,
    with_terms,
)

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


FILE = "features/ngrams-1/part-1.parquet"


def _ids(n: int) -> pa.Table:
    ids = pa.array([str(i) for i in range(n)], pa.string())
    return pa.table({"video_id": ids, "vector": from_vectors(np.ones((n, 2), np.float32))})


@given(st.lists(st.booleans(), max_size=6), st.integers(0, 5), st.integers(0, 3))
def test_terms_come_back_as_they_were(present: list[bool], n_terms: int, seed: int) -> None:
    matrix = csr_array(random_array((len(present), n_terms), density=0.5, format="csr", rng=seed), dtype=np.float32)
    matrix.sort_indices()
    ends = [slice(*pair) for pair in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
    rows: list[TermRow | None] = [
        (matrix.indices[cut], matrix.data[cut]) if is_there else None
        for cut, is_there in zip(ends, present, strict=True)
    ]
    table = decode(encode(with_terms(_ids(len(present)), rows, n_terms)), FILE)
    assert table.column("terms").to_pylist() == [None if row is None else row[0].tolist() for row in rows]
    found = to_terms(table, FILE)
    assert found is not None
    assert found.dtype == np.float32
    expected = matrix.toarray() * np.array(present, bool)[:, None]
    np.testing.assert_array_equal(found.toarray(), expected)
    if present:
        part = table.slice(1)
        np.testing.assert_array_equal(to_terms(part, FILE).toarray(), expected[1:])  # type: ignore[union-attr]


def _column(name: str, values: object, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values, kind))


def _number(value: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.replace_schema_metadata({"n_terms": value})


TERMS, WEIGHTS = pa.list_(pa.int32()), pa.list_(pa.float32())


@pytest.mark.parametrize(
    "damage",
    [
        _number("4"),
        _number("-1"),
        _number("many"),
        _number("99999999"),
        lambda table: table.replace_schema_metadata({}),
        lambda table: table.drop_columns("terms"),
        lambda table: table.drop_columns("term_weights"),
        _column("terms", [[0, 4], None, [1]], pa.list_(pa.int64())),
        _column("term_weights", [[1, 1], None, [1]], pa.list_(pa.float64())),
        _column("terms", [[4, 0], None, [1]], TERMS),
        _column("terms", [[4, 4], None, [1]], TERMS),
        _column("terms", [[-1, 4], None, [1]], TERMS),
        _column("terms", [[0, None], None, [1]], TERMS),
        _column("terms", [[0], None, [1, 4]], TERMS),
        _column("terms", [[0, 4], [1], None], TERMS),
        _column("terms", [[0, 4], [], [1]], TERMS),
        _column("term_weights", [[1, np.nan], None, [1]], WEIGHTS),
        _column("term_weights", [[1, np.inf], None, [1]], WEIGHTS),
        _column("term_weights", [[1, None], None, [1]], WEIGHTS),
    ],
)
def test_damaged_terms_are_named(damage: Callable[[pa.Table], pa.Table]) -> None:
    pair = np.array([0, 4], np.int32), np.ones(2, np.float32)
    one = np.array([1], np.int32), np.ones(1, np.float32)
    table = with_terms(_ids(3), [pair, None, one], 5)
    assert decode(encode(table), FILE).num_rows == 3
    with pytest.raises(StoreError, match=r"part-1\.parquet is damaged"):
        decode(encode(damage(table)), FILE)
