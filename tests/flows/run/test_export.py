"""Which features, splits and values of a store are exported."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmcl.flows.run import export as exports
from nmcl.flows.run.export import ExportRequest
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.flows.stored_settings import of_store
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.storage.runs import champion
from nmcl.pipeline.storage.store import Store

ARCHIVE = Path(__file__).parents[2] / "data" / "store-28a06ff.tar.xz"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A store with a champion, some videos without sound or words, and one that does not decode."""
    folder = tmp_path_factory.mktemp("store")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    store = Store.open(next(path.parent for path in folder.rglob("store.json")))
    return Context(store, of_store(store, {})).plan()


REQUEST = ExportRequest("parquet", Path("features.parquet"))


def test_the_champion_gives_features_and_splits_where_the_settings_have_none(plan: Plan) -> None:
    export, run = exports.read(plan, REQUEST), champion(plan.store)
    assert run is not None
    assert (export.missing, export.split_source) == ("completed", run.folder)
    assert export.ids == [video.video_id for video in plan.videos]
    assert [feature.name for feature in export.features] == ["visual", "acoustic", "textual"]
    assert run.splits is not None
    for video, split in zip(plan.videos, export.splits, strict=True):
        assert split == (run.splits.get(video.sha256) if video.venue else None)
    assert any("as those of the store's settings are not extracted" in note for note in export.notes)


def test_completed_vectors_fill_only_the_gaps(plan: Plan) -> None:
    bare, filled = (exports.read(plan, replace(REQUEST, missing=how)) for how in ("nan", "completed"))
    empty = ~np.any([feature.observed for feature in bare.features], axis=0)
    for before, after in zip(bare.features, filled.features, strict=True):
        x, y = (np.concatenate(list(feature.blocks())) for feature in (before, after))
        np.testing.assert_array_equal(np.isnan(x).any(axis=1), ~before.observed)
        np.testing.assert_array_equal(x[before.observed], y[before.observed])
        assert not y[empty].any()
        assert y[~before.observed & ~empty].any(axis=1).all()


def test_chosen_features_and_splits(plan: Plan) -> None:
    export = exports.read(plan, replace(REQUEST, features=("textual", "visual"), split="given", missing="zero"))
    assert [feature.name for feature in export.features] == ["textual", "visual"]
    assert (export.split_source, {*export.splits}) == ("none", {None})
    assert not [kind for feature in export.features for kind in feature.made_by if "compl" in kind]


def test_the_recipes_lead_back_to_the_states(plan: Plan) -> None:
    made = next(f.made_by for f in exports.read(plan, REQUEST).features if f.name == "acoustic")
    kinds = [folder.rsplit("-", 1)[0] for folder in made]
    assert kinds == ["features/acoustic", "states/acoustic", "states/completion", "completed/all"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": ("visul",)}, "no feature set 'visul'. Did you mean visual?"),
        ({"run": "nope"}, "There is no run nope"),
        ({"format": "torch", "sequences": True}, "No feature set has sequences, only pooled vectors"),
    ],
)
def test_what_is_not_there_is_named(plan: Plan, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as found:
        exports.read(plan, replace(REQUEST, **changes))  # type: ignore[arg-type]
    assert said in str(found.value)


def test_without_a_run_there_are_given_splits_and_a_sentence_about_what_is_missing(plan: Plan, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "out")
    for _, part in plan.catalogue.parts():
        store.write(part.file, plan.store.read(part.file))
    with pytest.raises(StoreError, match=r"some videos are not extracted\. Extract them first: `nmcl extract --out"):
        exports.read(replace(plan.refreshed(), store=store), REQUEST)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (ExportRequest("parket", Path("x")), "Did you mean parquet?"),
        (ExportRequest("parquet", Path("x"), sequences=True), "has no place for sequences"),
        (ExportRequest("mmrec", Path("x"), missing="nan"), "compute with NaN as with a number"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(wanted: ExportRequest, said: str) -> None:
    with pytest.raises(UserError) as found:
        wanted.check()
    assert said in str(found.value)


def test_format_and_path_of_an_option(tmp_path: Path) -> None:
    assert exports.wanted("npz").to == Path("features.npz")
    assert exports.wanted(f"npz={tmp_path}/a=b.npz").to == tmp_path / "a=b.npz"
    (tmp_path / "x.npz").touch()
    with pytest.raises(UserError, match="exists"):
        exports.wanted(f"npz={tmp_path}/x.npz")
    (tmp_path / "x.npz.recipe.json").touch()
    assert exports.wanted(f"npz={tmp_path}/x.npz").force


def test_a_run_has_its_own_feature_sets_whatever_the_settings_name(plan: Plan) -> None:
    run = champion(plan.store)
    assert run is not None
    textual = {"textual": plan.settings.features["textual"]}
    other = replace(plan, settings=replace(plan.settings, features=textual))
    export = exports.read(other, replace(REQUEST, run=run.folder))
    assert [(feature.name, feature.modality) for feature in export.features] == [
        (name, name) for name in ("visual", "acoustic", "textual")
    ]
