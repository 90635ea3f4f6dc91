"""Addresses last: what they are made of is frozen, and new settings change none."""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge

from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.registry import EXTRACTORS
from nmcl.extractors.visual import VisualSettings
from nmcl.flows import console
from nmcl.flows.run.lineage import FrozenStates, earlier_form, is_same_run, lineage_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.settings import ModelChoice, Settings, from_tree
from nmcl.flows.settings_tree import load_tree, merged
from nmcl.flows.stored_settings import usable
from nmcl.model.registry import ABLATIONS, MODELS
from nmcl.pipeline.addressing import Reference, Unhashed, marked
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.records import State, Video
from nmcl.pipeline.stages.verify import verify
from nmcl.pipeline.storage.artifacts import Artifact, digest, hashed_part, save_state
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, make_part
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.store import Store

DATA = Path(__file__).resolve().parents[2] / "data"
SECTIONS = ("subtitles", "ocr", "thumbnails", "split", "media", "completion", "drift", "promotion")
"""Whose settings decide values. How a crawl is read is in its catalogue, and who works decides nothing."""


def video(i: int) -> Video:
    return Video(f"v{i}", "crawl", f"v{i}.mp4", f"{i:064x}", 1, f"words of {i}", ("Beach", "Street")[i % 2], None, None)


def plan_of(folder: Path, settings: Settings) -> Plan:
    store = Store.create(folder / "out")
    part = make_part(store, [video(i) for i in range(120)])
    return Plan(store, Catalogue((Crawl("crawl", "/nowhere", (part,), ()),)), settings)


def artifacts(plan: Plan) -> dict[str, Artifact]:
    others = {"failures": plan.failures, "completion": plan.completion, "completed": plan.completed, "run": plan.run}
    return {**{f"state of {m}": a for m, a in plan.states.items()}, **plan.features, **others}


def addresses(plan: Plan) -> dict[str, str]:
    return {name: artifact.folder for name, artifact in artifacts(plan).items()}


def kinds_of_settings() -> list[type]:
    """Every settings dataclass that takes part in an address, nested ones included."""

    def within(kind: type) -> Iterator[type]:
        yield kind
        for _, hint, _ in marked(kind):
            if is_dataclass(hint):
                yield from within(hint)  # type: ignore[arg-type]

    sections = [type(getattr(Settings(), section)) for section in SECTIONS]
    models = [type(entry.settings) for entry in (MODELS | ABLATIONS).values()]
    extractors = [type(entry.settings) for entry in EXTRACTORS.values()]
    found = dict.fromkeys(
        k for kind in (*sections, *extractors, *models, ModelChoice, Preprocess) for k in within(kind)
    )
    assert len({kind.__name__ for kind in found}) == len(found)
    return list(found)


@pytest.mark.parametrize("kind", kinds_of_settings(), ids=lambda kind: kind.__name__)
def test_every_setting_has_its_frozen_reference(kind: type) -> None:
    frozen = json.loads((DATA / "references.json").read_text())[kind.__name__]
    for name, hint, marker in marked(kind):
        setting = f"{kind.__name__}.{name}"
        if is_dataclass(hint) or (kind, name) == (ModelChoice, "options"):
            continue
        assert marker is not None, (
            f"{setting} has no marker. Give it Reference(VALUE), the value that gives what was given before there was "
            "the setting, or Unhashed() if it can decide no value. See CONTRIBUTING.md."
        )
        found = {"unhashed": True} if isinstance(marker, Unhashed) else {"reference": marker.value}
        assert name in frozen, f"{setting} is new: add it to tests/data/references.json, as {json.dumps(found)}."
        assert json.loads(json.dumps(found)) == frozen[name], (
            f"The reference of {setting} was {frozen[name]}, and is edited. It is never edited: addresses of the same "
            "values would change, or artifacts of other values would share one. Change only the default."
        )


GOLDEN = {
    "state of acoustic": "states/acoustic-5a57c8417045",
    "state of textual": "states/textual-c348001af35f",
    "visual": "features/visual-c9685cd5abb8",
    "acoustic": "features/acoustic-67f29938e719",
    "textual": "features/textual-595e0eb2eb41",
    "failures": "failures/media-3d2376b31fb7",
    "completion": "states/completion-343ece0aa217",
    "completed": "completed/all-787031a20c50",
    "run": "runs/nmcl_stacked-029283fde17d",
}
"""Of the paper's feature sets. They change with a version of code or a default, and with nothing else."""
WITH_WORDS = {
    "words": "features/words-e05041406d8b",
    "completion": "states/completion-f27afc0bbb39",
    "completed": "completed/all-d50e612f06b5",
    "run": "runs/nmcl_stacked-e87549fd91b5",
}
"""What stores have besides whose default sets did not include `ngrams`, and what depends on it."""
WITH_NGRAMS = WITH_WORDS | {
    "state of ngrams": "states/ngrams-6f365bd9065e",
    "ngrams": "features/ngrams-817f4ee49f38",
    "completion": "states/completion-39616722ee6b",
    "completed": "completed/all-01eefd671157",
    "run": "runs/nmcl_stacked-efa7b415cc34",
}
"""What the default settings have."""
STACK = {
    "stacked_with": ["kernel_ridge", "mahalanobis", "logistic"],
    "folds": 0,
    "train": {"even_batches": False},
}
"""Of versions before the stack was weighted by cross-validation."""
PAPER = from_tree({"features": "paper", "model": STACK})
ONLY_PAPERS = {"model": STACK, "features": {"words": {"extractor": "none"}, "ngrams": {"extractor": "none"}}}


def test_addresses_are_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And known without the weights, which are not on this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert addresses(plan_of(tmp_path, PAPER)) == GOLDEN
    before = from_tree({"features": {"ngrams": {"extractor": "none"}}, "model": STACK})
    assert addresses(plan_of(tmp_path, before)) == GOLDEN | WITH_WORDS
    assert addresses(plan_of(tmp_path, Settings())) == GOLDEN | WITH_NGRAMS
    assert plan_of(tmp_path, from_tree({"features": "paper"})).run.folder == "runs/nmcl_stacked-aa3a32bf6b59"
    assert not (tmp_path / "torch").exists()


def test_sequences_need_no_other_state(tmp_path: Path) -> None:
    """Their vectors are the same; the files have more columns."""
    sequence = from_tree({**ONLY_PAPERS, "visual": {"sequence": True}, "acoustic": {"sequence": True}})
    found = addresses(plan_of(tmp_path, sequence))
    changed = {name for name in GOLDEN if found[name] != GOLDEN[name]}
    assert changed == {"visual", "acoustic", "completion", "completed", "run"}


def grown(settings: Any, value: int) -> Any:
    """The same settings in a later version, which has one more; its reference is 3."""
    more = [("added", Annotated[int, Reference(3)], 3)]
    kind = make_dataclass(f"Later{type(settings).__name__}", more, bases=(type(settings),), frozen=True)
    return kind(**{f.name: getattr(settings, f.name) for f in fields(settings)}, added=value)


DOWNSTREAM = {
    "split": set(),
    "media": {"state of acoustic", "visual", "acoustic", "failures", "completion", "completed", "run"},
    "visual": {"visual", "completion", "completed", "run"},
    "acoustic": {"state of acoustic", "acoustic", "completion", "completed", "run"},
    "autoencoder": {"state of acoustic", "acoustic", "completion", "completed", "run"},
    "textual": {"state of textual", "textual", "completion", "completed", "run"},
    "completion": {"completion", "completed", "run"},
    "model": {"run"},
    "train": {"run"},
    "drift": set(),
    "promotion": set(),
}


def with_options(settings: Settings, name: str, options: Any) -> Settings:
    """The same settings with other options of one feature set."""
    chosen = replace(settings.features[name], options=options)
    return replace(settings, features={**settings.features, name: chosen})


def with_grown(section: str, value: int) -> Settings:
    """The paper's settings in which one section has grown."""
    settings = PAPER
    match section:
        case "autoencoder":
            options = settings.features["acoustic"].options
            return with_options(settings, "acoustic", replace(options, autoencoder=grown(options.autoencoder, value)))
        case "visual" | "acoustic" | "textual":
            return with_options(settings, section, grown(settings.features[section].options, value))
        case "model":
            return replace(settings, model=replace(settings.model, options=grown(settings.model.options, value)))
        case "train":
            options = settings.model.options
            changed = replace(options, train=grown(options.train, value))
            return replace(settings, model=replace(settings.model, options=changed))
    return replace(settings, **{section: grown(getattr(settings, section), value)})


@pytest.mark.parametrize("section", DOWNSTREAM)
def test_a_new_setting_changes_no_address_and_other_values_of_it_do(tmp_path: Path, section: str) -> None:
    assert addresses(plan_of(tmp_path, with_grown(section, 3))) == GOLDEN
    changed = addresses(plan_of(tmp_path, with_grown(section, 4)))
    assert {name for name in GOLDEN if changed[name] != GOLDEN[name]} == DOWNSTREAM[section]


@dataclass(frozen=True)
class LaterVisualSettings(VisualSettings):
    key_frames: Annotated[int, Ge(1), Reference(8)] = 6


def test_a_changed_default_is_hashed(tmp_path: Path) -> None:
    later = addresses(plan_of(tmp_path, with_options(PAPER, "visual", LaterVisualSettings())))
    assert {name for name in GOLDEN if later[name] != GOLDEN[name]} == DOWNSTREAM["visual"]
    assert later == addresses(plan_of(tmp_path, from_tree({**ONLY_PAPERS, "visual": {"key_frames": 6}})))
    assert addresses(plan_of(tmp_path, with_options(PAPER, "visual", LaterVisualSettings(key_frames=8)))) == GOLDEN


def test_a_recipe_tells_all_settings_and_hashes_few(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, from_tree({"visual": {"key_frames": 4}}))
    visual = plan.features["visual"]
    visual.note_recipe(plan.store)
    written = plan.store.read_json(f"metadata/{visual.folder}/recipe.json")
    in_full = written.pop("settings_in_full")
    assert in_full["features"]["visual"]["extractor"] == "resnet50"
    assert in_full["media"]["max_seconds"] == 180
    assert written["extractor"]["settings"] == {"key_frames": 4}
    assert written["extractor"]["weights"] == "0676ba61"
    assert visual.folder == f"features/visual-{digest(written)}"


@pytest.fixture
def trained(tmp_path: Path) -> tuple[Plan, str]:
    """A plan, and its run in the store, as far as a later run follows it."""
    plan = plan_of(tmp_path, PAPER)
    for artifact in (*plan.states.values(), plan.completion):
        save_state(plan.store, artifact, State())
    for artifact in (*plan.features.values(), plan.completed, plan.run):
        artifact.note_recipe(plan.store)
    plan.result.write_lineage(plan.catalogue, plan.placed)
    return plan, plan.run.folder


@pytest.mark.parametrize("section", ["media", "visual", "acoustic", "autoencoder", "textual"])
def test_a_champion_survives_a_new_setting(
    trained: tuple[Plan, str], section: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, run = trained
    frozen = lineage_of(plan.result).frozen
    later = replace(plan, settings=with_grown(section, 3), frozen=frozen, earlier={v.sha256: s for v, s in plan.placed})
    assert later.features == plan.features
    assert later.completed == plan.completed
    assert is_same_run(hashed_part(plan.store.read_json(f"{run}/recipe.json")), later.run)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("section", ["media", "visual", "acoustic", "autoencoder", "textual"])
def test_a_champion_refuses_a_changed_default(trained: tuple[Plan, str], section: str) -> None:
    plan, _ = trained
    later = replace(plan, settings=with_grown(section, 4), frozen=lineage_of(plan.result).frozen)
    with pytest.raises(ModelError, match="with other settings, weights or limits"):
        _ = later.features


def test_newer_code_gives_a_note(trained: tuple[Plan, str], capsys: pytest.CaptureFixture[str]) -> None:
    plan, _ = trained
    console.note_once.cache_clear()
    frozen = lineage_of(plan.result).frozen
    own = frozen.features["textual"]
    older = Artifact(own.kind, {**own.recipe, "extractor": {**own.recipe["extractor"], "code_version": 0}})
    frozen = replace(frozen, features={**frozen.features, "textual": older})
    assert replace(plan, frozen=frozen).features["textual"] == older
    assert "earlier version of the extraction code" in capsys.readouterr().err


BEFORE_REFERENCES = {
    "visual": "features/visual-3f834b63a7ef",
    "acoustic": "features/acoustic-440860eecf9b",
    "textual": "features/textual-1870e7bed0ee",
}
"""What version 24ec5c3, the last before references, called the features of the default settings with
EfficientNet-Lite0."""
STATES_BEFORE_REFERENCES = {"acoustic": "504d79feb496", "textual": "4679def62642"}


def test_features_of_the_last_version_that_hashed_all_settings_are_known(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, from_tree({**ONLY_PAPERS, "visual": {"backbone": "efficientnet_lite0"}}))
    for modality, extractor in plan.extractors.all.items():
        present = plan.extractors.features(modality, STATES_BEFORE_REFERENCES.get(modality))
        assert f"features/{modality}-{digest(earlier_form(extractor, present))}" == BEFORE_REFERENCES[modality]


@pytest.mark.parametrize("section", ["media", "visual", "acoustic", "autoencoder", "textual"])
def test_a_champion_of_that_version_survives_a_new_setting(
    tmp_path: Path, section: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, from_tree({**ONLY_PAPERS, "visual": {"extractor": "efficientnet_lite0"}}))
    own = {
        m: Artifact(a.kind, json.loads(json.dumps(earlier_form(plan.extractors.all[m], a))))
        for m, a in plan.features.items()
    }
    frozen = FrozenStates("runs/nmcl-0", plan.states, own, plan.completion)
    later = with_grown(section, 3)
    lite = replace(later.features["visual"], extractor="efficientnet_lite0")
    later = replace(later, features={**later.features, "visual": lite})
    assert replace(plan, settings=later, frozen=frozen).features == own
    assert capsys.readouterr() == ("", "")


class TestEarlierStore:
    """The store of commit 28a06ff. See `tests/data/README.md`."""

    @pytest.fixture
    @staticmethod
    def store(tmp_path: Path) -> Store:
        with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
            archive.extractall(tmp_path, filter="data")
        return Store.open(tmp_path / "out")

    @staticmethod
    def plan(store: Store, run: str, *assignments: str) -> Plan:
        tree = usable(store, f"{run}/settings.json", store.read_json(f"{run}/settings.json"))
        changes = load_tree(assignments=assignments)
        settings = from_tree(merged(tree, changes))
        known = lineage_of(Run(store, run))
        return Plan(store, known.catalogue, settings, known.splits, known.frozen)

    def test_its_runs_are_known_again(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        console.note_once.cache_clear()
        for name in store.list("runs"):
            run = f"runs/{name}"
            plan, recipe = self.plan(store, run), store.read_json(f"runs/{name}/recipe.json")
            assert plan.frozen is not None
            assert plan.features == plan.frozen.features
            assert is_same_run(recipe, plan.run)
            assert is_same_run(recipe, replace(plan, start=run).run)
            seed = self.plan(store, run, "model.seed=7")
            assert not is_same_run(recipe, seed.run)
        assert "earlier version of the extraction code" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "assignment",
        [
            "features.visual.key_frames=5",
            "features.visual.weights=random",
            "features.textual.epochs=3",
            "features.acoustic.max_frames=7",
            "media.max_seconds=9",
        ],
    )
    def test_other_settings_are_refused(self, store: Store, assignment: str) -> None:
        (run,) = (f"runs/{name}" for name in store.list("runs") if name.startswith("nmcl"))
        with pytest.raises(ModelError, match="with other settings, weights or limits"):
            _ = self.plan(store, run, assignment).features

    def test_it_is_whole(self, store: Store) -> None:
        assert verify(store).problems == []
