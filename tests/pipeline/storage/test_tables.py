"""Tests of the Parquet files of a store."""

import subprocess
import sys

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
