"""Recipes and digests lie apart from the parts; where earlier versions put them, they are still found."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from nmcl.pipeline.storage.artifacts import (
    Artifact,
    add_digest,
    digest_file,
    files_of,
    modality_of,
    recipe_file,
    write_with_digest,
)
from nmcl.pipeline.storage.store import Store

VISUAL = Artifact("features/visual", {"state": None}, {"features": {"visual": {"modality": "acoustic"}}})
PART = VISUAL.part("0a")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def test_a_folder_of_parts_holds_nothing_else(store: Store) -> None:
    VISUAL.note_recipe(store)
    write_with_digest(store, PART, b"rows")
    assert store.list(VISUAL.folder) == ["part-0a.parquet"]
    assert files_of(store, VISUAL.folder) == {"part-0a.parquet", "part-0a.parquet.sha256", "recipe.json"}
    assert store.read_json(recipe_file(store, VISUAL.folder))["state"] is None
    assert modality_of(store, VISUAL.folder) == "acoustic"


def test_states_and_runs_keep_theirs_beside_them(store: Store) -> None:
    Artifact("states/visual", {}).note_recipe(store)
    write_with_digest(store, "runs/nmcl-1/predictions.parquet", b"rows")
    assert store.list("metadata") == []
    assert store.list("runs/nmcl-1") == ["predictions.parquet", "predictions.parquet.sha256"]
    subprocess.run(["sha256sum", "--check", "predictions.parquet.sha256"], cwd=f"{store.root}/runs/nmcl-1", check=True)


def test_digests_are_checked_in_the_folder_of_the_store(store: Store) -> None:
    write_with_digest(store, PART, b"rows")
    check = ["sha256sum", "--check", digest_file(store, PART)]
    subprocess.run(check, cwd=store.root, check=True)
    store.write(PART, b"other rows")
    assert subprocess.run(check, cwd=store.root, check=False).returncode == 1


def earlier(store: Store, data: bytes) -> None:
    """What earlier versions wrote of a part."""
    store.write_json(f"{VISUAL.folder}/recipe.json", VISUAL.recipe)
    store.write(PART, data)
    store.write(f"{PART}.sha256", f"{hashlib.sha256(data).hexdigest()}  part-0a.parquet\n".encode())


def test_those_of_earlier_versions_are_found_and_stay(store: Store) -> None:
    earlier(store, b"rows")
    VISUAL.note_recipe(store)
    add_digest(store, PART)
    assert store.list("metadata") == []
    assert store.read_json(recipe_file(store, VISUAL.folder)) == VISUAL.recipe
    assert digest_file(store, PART) == f"{PART}.sha256"
    assert files_of(store, VISUAL.folder) == {"part-0a.parquet", "part-0a.parquet.sha256", "recipe.json"}


def test_a_part_that_is_written_again_has_one_digest(store: Store) -> None:
    earlier(store, b"rows")
    write_with_digest(store, PART, b"other rows")
    assert store.list(VISUAL.folder) == ["part-0a.parquet", "recipe.json"]
    assert store.read(digest_file(store, PART)).decode().startswith(hashlib.sha256(b"other rows").hexdigest())


def test_an_earlier_version_may_write_the_part_once_more(store: Store) -> None:
    write_with_digest(store, PART, b"rows")
    earlier(store, b"other rows")
    assert store.read(digest_file(store, PART)).decode().startswith(hashlib.sha256(b"other rows").hexdigest())
