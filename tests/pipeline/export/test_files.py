"""Exports appear whole, with a recipe; the same store gives the same bytes; what is not ours is not replaced."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmcl.pipeline.bench.measure import in_new_process, peak_bytes_above
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.files import recipe_path, require_free, write_export
from nmcl.pipeline.export.record import Export, FeatureSet, Written
from nmcl.pipeline.export.registry import FORMATS, format_of
from nmcl.pipeline.records import SPLITS, Modality, Split
from tests.pipeline.export.world import IDS, World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_same_store_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    for where in ("a", "b"):
        world = make_world(tmp_path / f"store-{where}", part_size=5)
        write_export(world.export(sequences=True), name, tmp_path / where / FORMATS[name].default)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != {}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_recipe_names_how_every_value_was_made(name: str, world: World, tmp_path: Path) -> None:
    to = tmp_path / FORMATS[name].default
    written = write_export(world.export(), name, to)
    recipe = json.loads(recipe_path(FORMATS[name], to).read_text())
    assert (recipe["format"], recipe["rows"], recipe["missing"], recipe["labelled"]) == (name, 12, "completed", 9)
    assert recipe["splits"] == {"from": "the test", "train": 5, "validation": 2, "test": 2, "none": 3}
    assert recipe["contents"] == dict(written.contents)
    assert {*recipe["written_with"]} == {"python", "nmcl", "numpy", "pyarrow"}
    made = recipe["features"]["resnet"]["made_by"]
    assert [folder.partition("-")[0] for folder in made] == ["completed/all", "features/resnet"]
    assert recipe["features"]["resnet"]["made_with"] == {"torch": ["2.0", "2.1"]}
    assert recipe["features"]["spectrum"]["made_with"] == {"librosa": ["0.11"]}
    unknown = [note for note in recipe["notes"] if "libraries" in note]
    assert unknown == [
        "The versions of the libraries that made resnet (1 part), spectrum (3 parts), words (3 parts), second "
        "(3 parts) are not known: an earlier version of nmcl extracted them."
    ]
    assert list(made.values())[1]["settings_in_full"] == {"visual": {"dim": 6}}
    assert (recipe["features"]["resnet"]["observed"], recipe["features"]["resnet"]["missing"]) == (10, 2)
    root = to if to.is_dir() else tmp_path
    for file, found in recipe["files"].items():
        assert (root / file).is_dir() or hashlib.sha256((root / file).read_bytes()).hexdigest() == found["sha256"]
    others = {path.name for path in root.iterdir()} - {*recipe["files"]}
    assert others == {recipe_path(FORMATS[name], to).name}


@pytest.mark.parametrize("name", ["parquet", "mmrec"])
def test_nothing_is_left_of_a_writer_that_fails(
    name: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / FORMATS[name].default
    write_export(world.export("zero"), name, to)
    before = contents(tmp_path)

    def fail(export: Export, path: Path) -> Written:
        FORMATS_BEFORE[name].write(export, path)
        raise ValueError("in the middle")

    FORMATS_BEFORE = dict(FORMATS)
    monkeypatch.setitem(FORMATS, name, replace(FORMATS[name], write=fail))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="in the middle"):
        write_export(world.export("completed"), name, to, force=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["parquet", "mmrec"])
def test_only_force_replaces_an_export(name: str, world: World, tmp_path: Path) -> None:
    to = tmp_path / FORMATS[name].default
    write_export(world.export("zero"), name, to)
    with pytest.raises(UserError, match=r"exists\. Name another path by --to, or replace it with --force"):
        write_export(world.export("completed"), name, to)
    before = contents(tmp_path)
    write_export(world.export("completed"), name, to, force=True)
    assert contents(tmp_path).keys() == before.keys()
    assert contents(tmp_path) != before


def test_what_no_export_made_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(UserError, match=r"no export made: it has no recipe\.json"):
        require_free("mmrec", tmp_path / "mine", force=True)
    with pytest.raises(UserError, match="is a folder; the format parquet is a file"):
        require_free("parquet", tmp_path / "mine", force=True)
    with pytest.raises(UserError, match="is a URL"):
        require_free("parquet", Path("s3://bucket/x"), force=False)


def test_an_unknown_format_names_the_closest() -> None:
    with pytest.raises(UserError, match=r"no export format 'parket'. Did you mean parquet\? Expected one of parquet, "):
        format_of("parket")


def test_mmsa_needs_three_modalities(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mmsa needs a feature set of each modality; there is none for audio"):
        write_export(world.export(names=("resnet", "words")), "mmsa", tmp_path / "x.pkl")
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_place_is_named(world: World, tmp_path: Path) -> None:
    written = write_export(world.export(), "mmrec", tmp_path / "x")
    assert written.notes == (
        "One set per modality (image_feat: resnet, text_feat: words, audio_feat: spectrum); left out: second.",
    )


def large(n_blocks: int) -> Export:
    """An export of blocks of 2 MB that exist only while they are read."""
    n = 256 * n_blocks
    vectors = np.random.default_rng(0).standard_normal((256, 2048), dtype=np.float32)

    def features(name: str, modality: Modality, dim: int) -> FeatureSet:
        observed = np.ones(n, bool)
        return FeatureSet(name, modality, dim, observed, lambda: (vectors[:, :dim].copy() for _ in range(n_blocks)))

    ids = [f"v{i}" for i in range(n)]
    splits: list[Split | None] = [SPLITS[i % 3] for i in range(n)]
    sets = [features("v", "visual", 2048), features("a", "acoustic", 200), features("t", "textual", 100)]
    return Export(ids, ["c"] * n, ids, ids, [None] * n, ["a"] * n, splits, sets)


def peak(name: str, n_blocks: int, folder: Path) -> int:
    write_export(large(2), name, folder / f"first-{n_blocks}")  # what is imported and allocated once
    export = large(n_blocks)
    return peak_bytes_above(lambda: write_export(export, name, folder / f"{n_blocks}"))


QUICK = ("parquet", "npz", "torch", "mmsa")
"""The four ways in which writers stream; the others use these."""
OTHERS = sorted({*FORMATS} - {"csv", "elliot", *QUICK})
"""Without those that write number by number, or file by file, which takes minutes."""


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_memory_does_not_grow_with_the_rows(name: str, tmp_path: Path) -> None:
    small, big = (in_new_process(peak, name, n, tmp_path) for n in (4, 28))
    assert big < small + (24 * 2 << 20) / 3, f"{small:,} {big:,}"  # 24 more blocks of 2.4 MB


def test_a_folder_has_one_digest(world: World, tmp_path: Path) -> None:
    write_export(world.export(names=("words",)), "elliot", tmp_path / "x")
    found = json.loads((tmp_path / "x/recipe.json").read_text())["files"]["words"]
    files = sorted((tmp_path / "x/words").iterdir())
    lines = "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files)
    assert (found["files"], found["sha256"]) == (len(IDS), hashlib.sha256(lines.encode()).hexdigest())
