"""Settings: every source, every refusal, and the way there and back."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from nmcl.flows import console, feature_settings
from nmcl.flows.cli.options import given_settings
from nmcl.flows.feature_settings import DEFAULTS, unknown_paths
from nmcl.flows.settings import Settings, changed, from_tree, json_schema, to_tree
from nmcl.flows.settings_tree import load_tree, merged
from nmcl.flows.stored_settings import of_store, remember
from nmcl.model.registry import MODELS
from nmcl.pipeline.errors import SettingsError, UserError
from nmcl.pipeline.storage.store import Store
from tests.forms import LONG


def test_defaults_survive_the_way_through_json() -> None:
    assert from_tree(to_tree(Settings())) == Settings()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_has_its_own_settings(name: str) -> None:
    settings = from_tree(load_tree(assignments=[f"model.name={name}"]))
    assert settings.model.options == MODELS[name].settings
    assert from_tree(to_tree(settings)) == settings


def test_file_then_assignments(tmp_path: Path) -> None:
    config = tmp_path / "nmcl.toml"
    config.write_text('[visual]\nbackbone = "resnet101"\nkey_frames = 4\n[model.train]\nlearning_rate = 0.002\n')
    settings = from_tree(
        load_tree(config, ["features.visual.key_frames=5", "features.visual.weights=/data/w.pth", "model.dropout=0.4"])
    )
    visual = settings.features["visual"]
    assert visual.extractor == "resnet101"
    assert visual.options.key_frames == 5
    assert visual.options.weights == "/data/w.pth"
    assert settings.model.options.dropout == 0.4
    assert settings.model.options.train.learning_rate == 0.002


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("features.visual.extracter=resnet50", "Did you mean features.visual.extractor"),
        ("features.visual.key_framez=5", "Did you mean features.visual.key_frames"),
        ("features.more.dim=5", "features.more.extractor is None; expected one of resnet50"),
        ("features.my-words.extractor=sda", "cannot name a feature set"),
        ("features.completion.extractor=sda", "cannot name a feature set"),
        ("features.visual_observed.extractor=sda", "cannot name a feature set"),
        ("feature.visual.extractor=resnet50", "Did you mean features"),
        ("features.visual.extractor=vgg", "features.visual.extractor is 'vgg'"),
        ("features.visual.key_frames=0", "features.visual.key_frames is 0"),
        ("features.visual=1", "features.visual is a section"),
        ("features=1", "features is a section"),
        ("model.name=svm", "expected one of"),
        ("model.dropuot=0.1", "Did you mean model.dropout"),
        ("model.train.learning_rat=0.1", "Did you mean model.train.learning_rate"),
        ("split.train=0.9", "sum to"),
        ("nonsense", "expected SECTION.NAME=VALUE"),
        ("completion.method=magic", "completion.method is 'magic'"),
        ("media.max_seconds=inf", "media.max_seconds is inf; expected a number of at most"),
        ("media.max_seconds=1e305", "media.max_seconds is 1e+305; expected"),
        ("model.learning_rate=nan", "model.learning_rate is nan; expected a number"),
        ("media.timeout_s=1e8", "media.timeout_s is 100000000.0: Input should be less than or equal to 86400"),
        ("media.memory_mb=999999999999999", "media.memory_mb is 999999999999999: Input should be less"),
        (f"model.seed={10**30}", "model.seed is an integer; expected a number of at most 9.01e+15"),
        (f"features.{'x' * 300}.extractor=logmel", "use at most 64 lower-case letters"),
        (f"ingest.absent={'[' * 3000}", "ingest.absent is"),
        (f"ingest.absent={'[' * 90 + ']' * 90}", "is nested in more than 20 levels"),
        (".".join(["a"] * 3000) + "=1", "is nested in more than 20 levels"),
    ],
)
def test_refusals_say_what_to_do(assignment: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_tree(load_tree(assignments=[assignment]))
    assert message in str(caught.value)


def test_another_model_forgets_the_options_of_the_last() -> None:
    remembered = to_tree(
        from_tree(load_tree(assignments=["model.dropout=0.4", "model.seed=3", "features.visual.key_frames=5"]))
    )
    settings = changed(remembered, {"model": {"name": "logistic"}})
    assert settings.model.options == MODELS["logistic"].settings
    assert (settings.model.seed, settings.features["visual"].options.key_frames) == (3, 5)
    assert changed(remembered, {"model": {"seed": 4}}).model.options.dropout == 0.4


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        from_tree(load_tree(tmp_path / "absent.toml"))
    (tmp_path / "bad.toml").write_text("[visual\n")
    with pytest.raises(SettingsError, match="is not TOML"):
        from_tree(load_tree(tmp_path / "bad.toml"))


def test_the_schema_takes_all_settings_and_refuses_others() -> None:
    schema = Draft202012Validator(json_schema())
    for name in MODELS:
        schema.validate(json.loads(json.dumps(to_tree(from_tree({"model": {"name": name}})))))
    for wrong in (
        {"visul": {}},
        {"visual": {"backbon": "resnet50"}},
        {"features": {"visual": {"key_framez": 5}}},
        {"model": {"droput": 1}},
        {"model": {"seed": "a"}},
    ):
        assert not schema.is_valid(wrong)


def test_a_store_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store.create(tmp_path)
    remembered = to_tree(from_tree(load_tree(assignments=["features.visual.key_frames=5", "model.dropout=0.4"])))
    remembered["model"] |= {"linear_peer": True, "train": remembered["model"]["train"] | {"swing": 1}}
    store.write_json("settings.json", remembered | {"smell": {"noses": 2}})
    settings = of_store(store, {"visual": {"backbone": "resnet101"}})
    assert settings == from_tree(
        load_tree(
            assignments=["features.visual.key_frames=5", "features.visual.extractor=resnet101", "model.dropout=0.4"]
        )
    )
    said = capsys.readouterr().err
    assert "does not know smell, model.linear_peer, model.train.swing, and ignores them" in said
    store.write_json("settings.json", {"model": {"name": "oracle", "depth": 3}})
    assert of_store(store, {}) == from_tree({"features": "paper"})
    assert "does not know model, " in capsys.readouterr().err
    with pytest.raises(SettingsError, match=r"model\.linear_peer"):
        of_store(store, {"model": {"linear_peer": True}})


def test_a_set_is_left_out_on_the_command_line() -> None:
    assert "visual" not in from_tree(load_tree(assignments=["features.visual.extractor=none"])).features


def test_a_store_keeps_its_settings_and_what_changes_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.create(tmp_path)
    first = from_tree(load_tree(assignments=["features.visual.key_frames=5", "engine.workers=4"]))
    remember(store, first)
    remember(store, of_store(store, {}))
    assert capsys.readouterr().err == ""
    (tmp_path / "s.toml").write_text("[visual]\nbackbone = 'resnet101'\n[split]\nseed = 3\n")
    remember(store, of_store(store, load_tree(tmp_path / "s.toml", ["split.seed=4"])))
    said = capsys.readouterr().err
    assert said.endswith('have changed: features.visual.extractor "resnet50" -> "resnet101", split.seed 0 -> 4.\n')
    kept = of_store(store, {})
    assert (kept.features["visual"].options.key_frames, kept.features["visual"].extractor, kept.engine.workers) == (
        5,
        "resnet101",
        4,
    )
    remember(store, of_store(store, {"model": {"name": "logistic"}}))
    assert 'model.name "nmcl_stacked" -> "logistic".' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "name", "changes"),
    [
        ({"name": "nmcl", "peers": ["logistic"], "opinion_weight": 0.2}, "nmcl_stacked", {"auxiliary_weight": 0.2}),
        ({"peers": ["logistic"]}, "nmcl_stacked", {}),
        ({"name": "nmcl_stacked", "peers": ["logistic"]}, "nmcl_stacked", {}),
        ({"name": "variant_2", "peers": ["logistic"]}, "nmcl_stacked", {"composition": "variant_2"}),
        ({"name": "nmcl", "peers": []}, "nmcl", {}),
        ({"peers": []}, "nmcl", {}),
        ({"name": "variant_2", "peers": []}, "variant_2", {}),
        ({"name": "nmcl_paper", "peers": [], "opinion_weight": 0.0}, "nmcl_paper", {}),
    ],
)  # fmt: skip
def test_names_of_earlier_versions(
    before: dict[str, object],
    name: str,
    changes: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Stored by an earlier version, or named by a file or `--set` as in one."""
    console.note_once.cache_clear()
    stacked = {"stacked_with": ("logistic",)} if before["peers"] else {}
    expected = replace(MODELS[name].settings, **changes, **stacked)
    store = Store.create(tmp_path / "named")
    found = of_store(store, {"model": before})
    assert (found.model.name, found.model.options) == (name, expected)
    renamed = before.get("name", "nmcl_stacked") != name
    assert capsys.readouterr().err.count("of earlier versions is now called") == renamed
    remember(store, found)
    assert of_store(store, {}) == found
    assert capsys.readouterr().err == ""

    console.note_once.cache_clear()
    store = Store.create(tmp_path / "stored")
    full = to_tree(found)["model"]
    full["opinion_weight"] = full.pop("auxiliary_weight")
    full.pop("stacked_with", None)
    store.write_json("settings.json", {"model": {**full, "name": "nmcl", **before, "seed": 3}})
    found = of_store(store, {})
    assert (found.model.name, found.model.seed, found.model.options) == (name, 3, expected)
    renamed = before.get("name", "nmcl") != name
    assert capsys.readouterr().err.count("of earlier versions is now called") == renamed


@pytest.mark.parametrize("wrong", [{"name": ""}, {"name": 0}, {"name": []}, {"peers": None}, {"peers": 3}])
def test_wrong_names_and_stacks_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.(name|stacked_with)"):
        of_store(Store.create(tmp_path), {"model": wrong})


def test_a_change_of_the_stacking_keeps_the_stored_model(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    remember(store, of_store(store, {"model": {"name": "variant_2", "hidden": 8}}))
    found = of_store(store, {"model": {"peers": []}})
    assert (found.model.name, found.model.options.hidden) == ("variant_2", 8)


def test_an_extractor_may_be_named_with_its_model() -> None:
    short, long = (
        load_tree(assignments=[f"features.pictures.{line}" for line in lines])
        for lines in (["extractor=timm:convnext_atto"], ["extractor=timm", "model=convnext_atto"])
    )
    settings = from_tree(short)
    assert settings == from_tree(long)
    assert to_tree(settings)["features"]["pictures"]["extractor"] == "timm"
    Draft202012Validator(json_schema()).validate(short)
    assert unknown_paths(short["features"]) == []
    later = changed(
        to_tree(from_tree(merged(short, {"features": {"pictures": {"key_frames": 3}}}))),
        {"features": {"pictures": {"extractor": "timm:resnet10t"}}},
    ).features["pictures"]
    assert (later.options.model, later.options.key_frames) == ("resnet10t", 3)


def test_another_engine_has_another_cluster() -> None:
    remembered = to_tree(from_tree({"engine": {"name": "ray", "workers": 4, "address": "ray-head:6379", "gpus": 0.5}}))
    engine = changed(remembered, {"engine": {"name": "processes"}}).engine
    assert (engine.workers, engine.address, engine.gpus) == (4, "", 0)
    assert changed(remembered, {"engine": {"name": "ray", "workers": 8}}).engine.address == "ray-head:6379"
    with pytest.raises(SettingsError, match="engine is a section"):
        changed(remembered, {"engine": 3})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("features.visual.device=cuda:77", "device is 'cuda:77', which this machine does not have"),
        ("features.visual.device=foo", "device is 'foo'"),
        ("features.visual.device=meta", "device is 'meta'"),
        ("features.visual.weights=absent.pth", "there is no file absent.pth"),
        ("features.textual.extra_text=absent.txt", "absent.txt cannot be read"),
        ("model=3", "model is a section"),
        ("features=3", "features is a section"),
        ("model.name=[1]", "model.name is"),
        ("model.name=logistc", r"Did you mean logistic\?"),
    ],
)
def test_settings_are_tried_before_they_are_kept(wrong: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        of_store(Store.create(tmp_path), load_tree(assignments=[wrong]))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "other.pth"
    for content in ({"a": torch.zeros(2)}, [1], {1: torch.zeros(2)}, {"a": torch.zeros(2, 2).to_sparse()}):
        torch.save(content, path)
        with pytest.raises(UserError, match="weights"):
            of_store(Store.create(tmp_path / "out"), load_tree(assignments=[f"features.visual.weights={path}"]))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=2000 if LONG else 60)
@given(data=st.data())
def test_any_settings_are_used_or_refused(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    tree = to_tree(Settings())
    section = data.draw(st.sampled_from(sorted(tree)))
    name = data.draw(st.sampled_from(sorted(tree[section])))
    found = {section: data.draw(ANY_JSON | st.builds(lambda value: {name: value}, ANY_JSON))}
    with contextlib.suppress(UserError):
        from_tree(found)
    with contextlib.suppress(UserError):
        changed(tree, found)
    store = Store.create(tmp_path_factory.mktemp("store"))
    store.write_json("settings.json", found)
    with contextlib.suppress(UserError):
        of_store(store, {})


def test_a_store_keeps_what_settings_meant_that_its_version_did_not_know(tmp_path: Path) -> None:
    """They have their references, not the defaults of by now: here those of nmcl, which differ."""
    store = Store.create(tmp_path)
    tree = to_tree(Settings())
    del tree["model"]["train"]["weight_decay"], tree["features"]["visual"]["precision"]
    store.write_json("settings.json", tree)
    found = of_store(store, {})
    assert (found.model.options.train.weight_decay, found.features["visual"].options.precision) == (5.0, "auto")
    assert of_store(Store.create(tmp_path / "new"), {}).model.options.train.weight_decay == 2.0


def test_removed_settings_of_a_store_are_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, now = Store.create(tmp_path / "out"), to_tree(Settings())
    for members, average in ((1, 0.0), (2, 0.9)):
        assert capsys.readouterr().err == ""
        train = {**now["model"]["train"], "average": average}
        store.write_json("settings.json", {**now, "model": {**now["model"], "members": members, "train": train}})
        assert of_store(store, {}) == Settings()
    assert "no longer have the settings members, average" in " ".join(capsys.readouterr().err.split())


def test_sections_of_earlier_versions_are_feature_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.note_once.cache_clear()
    before = {"visual": {"backbone": "resnet101", "key_frames": 4}, "acoustic": {"autoencoder": {"epochs": 1}}}
    now = {
        "features": {
            "visual": {"extractor": "resnet101", "key_frames": 4},
            "acoustic": {"autoencoder": {"epochs": 1}},
        }
    }
    store = Store.create(tmp_path)
    assert of_store(store, before) == from_tree(before) == from_tree(now)
    assert "Settings of visual, acoustic are now under features" in capsys.readouterr().err
    store.write_json("settings.json", before)
    later = {name: {"extractor": "none"} for name in ("words", "ngrams")}
    assert of_store(store, {}) == from_tree({"features": {**now["features"], **later}})
    assert capsys.readouterr().err == ""
    changes = {"visual": {"key_frames": 5}}
    assert of_store(store, changes).features["visual"].options.key_frames == 5
    Draft202012Validator(json_schema()).validate(before)


def test_any_number_of_feature_sets() -> None:
    tree = {"features": {"acoustic": {"extractor": "none"}, "frames": {"extractor": "efficientnet_lite0"}}}
    settings = from_tree(tree)
    assert list(settings.features) == ["visual", "textual", "words", "ngrams", "frames"]
    assert from_tree(json.loads(json.dumps(to_tree(settings)))) == settings
    remembered = to_tree(settings)
    assert list(changed(remembered, {"features": {"acoustic": {"extractor": "sda"}}}).features)[:2] == [
        "visual",
        "acoustic",
    ]
    other = changed(
        remembered, {"features": {"visual": {"key_frames": 5}, "frames": {"extractor": "paragraph_vectors"}}}
    )
    assert other.features["frames"].options.dim == 100
    with pytest.raises(UserError, match="No feature set is left"):
        from_tree({"features": {name: {"extractor": "none"} for name in DEFAULTS}})


PAPER = ["visual", "acoustic", "textual"]


def test_the_papers_sets_are_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.note_once.cache_clear()
    assert list(Settings().features) == [*PAPER, "words", "ngrams"]
    assert list(from_tree({"features": "paper"}).features) == PAPER
    config = tmp_path / "nmcl.toml"
    config.write_text('features = "paper"\n')
    both = tmp_path / "both.toml"
    both.write_text('features = "paper"\n[visual]\nbackbone = "resnet101"\n')
    trees = [given_settings(both, None)]
    for own in ("features.visual.extractor=resnet101", "visual.backbone=resnet101"):
        orders = (["features=paper", own], [own, "features=paper"])
        trees += [given_settings(config, [own]), *(given_settings(None, order) for order in orders)]
    for tree in trees:
        settings = of_store(Store.create(tmp_path / "out"), tree)
        assert list(settings.features) == PAPER
        assert settings.features["visual"].extractor == "resnet101"
    assert capsys.readouterr().err.count("Settings of visual are now under features") == 1
    assert from_tree(json.loads(json.dumps(to_tree(settings)))) == settings
    Draft202012Validator(json_schema()).validate({"features": "paper"})
    assert not Draft202012Validator(json_schema()).is_valid({"features": "papers"})
    with pytest.raises(SettingsError, match="features is 'papers'; expected 'paper', or names under it"):
        from_tree(given_settings(None, ["features=papers"]))


def test_the_preset_leaves_out_the_default_set_of_a_store(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    remember(store, from_tree({"features": {"frames": {"extractor": "efficientnet_lite0"}}}))
    assert list(of_store(store, {}).features) == [*PAPER, "words", "ngrams", "frames"]
    assert list(of_store(store, {"features": "paper"}).features) == [*PAPER, "frames"]


def test_a_store_from_before_the_set_ngrams_keeps_its_sets(tmp_path: Path) -> None:
    store, before = Store.create(tmp_path), to_tree(Settings())
    del before["features"]["ngrams"]
    store.write_json("settings.json", before)
    assert list(of_store(store, {}).features) == [*PAPER, "words"]
    added = of_store(store, {"features": {"ngrams": {"extractor": "ngrams"}}})
    assert list(added.features) == [*PAPER, "words", "ngrams"]
    remember(store, of_store(store, {}))
    assert list(of_store(store, {}).features) == [*PAPER, "words"]


def test_no_set_may_be_named_as_the_terms_of_another() -> None:
    with pytest.raises(SettingsError, match="'ngrams_terms' cannot name a feature set beside 'ngrams'"):
        from_tree({"features": {"ngrams_terms": {"extractor": "logmel"}}})


def test_a_store_from_before_the_set_words_stays_without_it(tmp_path: Path) -> None:
    store, before = Store.create(tmp_path), to_tree(Settings())
    del before["features"]["words"], before["features"]["ngrams"]
    store.write_json("settings.json", before)
    assert list(of_store(store, {}).features) == PAPER
    assert list(of_store(store, {"features": {"words": {"extractor": "wordllama"}}}).features) == [*PAPER, "words"]
    remember(store, of_store(store, {}))
    assert list(of_store(store, {}).features) == PAPER


def test_without_the_package_of_a_default_set_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console.note_once.cache_clear()
    monkeypatch.setattr(feature_settings, "is_installed", lambda: False)
    store = Store.create(tmp_path)
    assert list(of_store(store, {}).features) == [*PAPER, "ngrams"]
    assert "The feature set words is left out" in capsys.readouterr().err
    assert list(of_store(store, {"features": "paper"}).features) == PAPER
    remember(store, of_store(store, {}))
    console.note_once.cache_clear()
    capsys.readouterr()
    assert list(of_store(store, {}).features) == [*PAPER, "ngrams"]
    assert capsys.readouterr().err == ""
