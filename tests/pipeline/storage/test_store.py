"""The store: whole files or none, one writer, nobody else's folder."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.records import State
from nmcl.pipeline.storage.artifacts import Artifact, digest, has_state, load_state, save_state
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import decode, encode, from_vectors, to_vectors


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def test_a_folder_of_other_things_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"contains thesis\.tex"):
        Store.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"thesis\.tex is a file\."):
        Store.create(tmp_path / "thesis.tex")


def test_opening_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nmcl run CRAWL"):
        Store.open(tmp_path / "nothing")


def test_a_newer_format_is_refused(store: Store) -> None:
    store.write_json("store.json", {"format": 99})
    with pytest.raises(StoreError, match="format 99"):
        Store.open(store.root)


def test_a_full_disk_is_said_and_keeps_what_was_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("a/file", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space is left"):
        store.write("a/file", b"new")
    assert store.read("a/file") == b"old"
    assert store.list(".tmp") == []


def test_a_process_killed_while_writing_leaves_the_old_file(store: Store) -> None:
    store.write("file", b"old")
    script = (
        "import os, signal, sys\n"
        "from nmcl.pipeline.storage.store import Store\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store.open(sys.argv[1]).write('file', b'new')\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(store.root)], check=False)
    assert killed.returncode == -9
    assert store.read("file") == b"old"
    with store.locked():
        assert store.list(".tmp") == []


def test_one_writer_at_a_time(store: Store) -> None:
    script = (
        "import sys\n"
        "from nmcl.pipeline.errors import StoreError\n"
        "from nmcl.pipeline.storage.store import Store\n"
        "try:\n"
        "    with Store.open(sys.argv[1]).locked(): print('free')\n"
        "except StoreError as error: print(error)\n"
    )

    def try_it() -> str:
        return subprocess.run([sys.executable, "-c", script, str(store.root)], capture_output=True, text=True).stdout

    with store.locked(), store.locked():
        assert "Another nmcl command" in try_it()
    assert "free" in try_it()


def test_pointing_somewhere_else(store: Store) -> None:
    store.write("runs/a/x", b"1")
    store.write("runs/b/x", b"2")
    for target in ("runs/a", "runs/b", "runs/b"):
        store.point("latest", target)
        assert store.leads("latest", target)
    assert store.read("latest/x") == b"2"


@given(
    vectors=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=st.floats(-1e6, 1e6, width=32)
    ),
    absent=st.lists(st.integers(0, 8)),
)
@settings(deadline=None, max_examples=40)
def test_vectors_survive_bit_for_bit(vectors: np.ndarray, absent: list[int]) -> None:
    import pyarrow as pa

    vectors = vectors.copy()
    vectors[[i for i in absent if i < len(vectors)]] = np.nan
    table = pa.table({"vector": from_vectors(vectors)})
    data = encode(table)
    np.testing.assert_array_equal(to_vectors(decode(data, "x").column("vector")), vectors)
    np.testing.assert_array_equal(to_vectors(table.slice(1).column("vector")), vectors[1:])
    assert data == encode(table)


def test_damaged_tables_are_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"part-1\.parquet is damaged"):
        decode(b"PAR1 and then noise", "part-1.parquet")


def test_states_survive_and_damage_is_said(store: Store) -> None:
    artifact = Artifact("states/x", {"a": 1})
    state = State({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([1, 2])}, {"words": ["é", "😀"]})
    assert not has_state(store, artifact)
    save_state(store, artifact, state)
    loaded = load_state(store, artifact)
    assert loaded.info == state.info
    for name, array in state.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array)
    save_state(store, Artifact("states/empty", {}), State())
    assert load_state(store, Artifact("states/empty", {})) == State()
    store.write(f"{artifact.folder}/state.safetensors", b"noise")
    with pytest.raises(StoreError, match="damaged"):
        load_state(store, artifact)


def test_addresses_depend_on_content_alone() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest(None)) == 12
