"""`nmcl reproduce` as a user types it, on a small file of features."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmcl.flows.cli.options import StudyOptions
from nmcl.flows.cli.study import chosen_models, reproduce
from nmcl.model.feature_table import read_feature_file
from nmcl.model.registry import MODELS
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.progress import silent
from tests.model.conftest import world

NMCL = str(Path(sys.executable).parent / "nmcl")
MEASURES = {
    "micro_f1", "macro_f1", "auc_micro", "auc_macro", "top5", "ece", "ece_if_calibrated", "train_seconds", "parameters",
    "p_value",
}  # fmt: skip


METHODS = "nmcl,variant_2,early_fusion,trumann,logistic,majority"


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([NMCL, "reproduce", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = world(120, seed=0)
    sound = rows.modalities["sound"].copy()
    sound[::10] = np.nan
    path = tmp_path_factory.mktemp("features") / "small.npz"
    label = np.array(["Bakery", "Café", "Park", "Plaza"])[rows.label]
    np.savez(path, sight=rows.modalities["sight"], sound=sound, label=label)
    return path


@pytest.fixture(scope="module")
def out(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of some methods of each kind; `tests/model/test_trained.py` trains all of them."""
    folder = tmp_path_factory.mktemp("study") / "deep" / "out"
    taxonomy = features.with_name("venues.csv")
    taxonomy.write_text("venue,parent\nBakery,Food\nCafé,Food\nPark,Outdoors\n", encoding="utf-8")
    done = command(
        "--features", features, "--out", folder, "--seeds", "2", "--taxonomy", taxonomy, "--methods", METHODS
    )
    assert done.returncode == 0, done.stderr
    assert str(folder / "report.html") in done.stdout.replace("\n", "")
    assert "'Plaza'" in done.stdout  # is not in the taxonomy, which is said
    return folder


def test_methods_are_compared(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    assert list(results["methods"]) == METHODS.split(",")
    for row in results["methods"].values():
        assert row.keys() >= MEASURES
        assert len(row["micro_f1"]["values"]) == 2
    assert set(results["variants"]) == {"variant_2", "nmcl"}
    assert set(results["modalities"]) == {"sight", "sound", "sight+sound"}
    assert set(results["enhanced"]) == {"sight+sound"}
    assert set(results["completion"]) == {f"0.{n}" for n in range(1, 10)}
    groups = results["settings"]["methods"]["trumann"]["groups"]
    assert ["Bakery", "Café"] in groups


def test_tables_and_figures_are_there(out: Path) -> None:
    for name in ("table2-methods", "table3-modalities", "table4-enhanced", "table5-variants", "completion"):
        assert (out / "tables" / f"{name}.md").stat().st_size > 0
        assert (out / "tables" / f"{name}.csv").stat().st_size > 0
    for name in ("fig4-roc", "fig5-epochs", "fig6-relation-1", "fig7-attention-sight", "methods", "gates"):
        assert (out / "figures" / f"{name}.svg").stat().st_size > 0
        assert (out / "figures" / f"{name}.png").stat().st_size > 0
    with np.load(out / "predictions.npz") as predictions:
        assert predictions["nmcl/1"].shape == (len(predictions["label/1"]), 4)


def test_the_search_is_recorded(features: Path, tmp_path: Path) -> None:
    few = ("--skip", "completion,modalities,absence", "--jobs", "1")
    chosen = ("--methods", "mlp,majority", "--seeds", "1", "--tune", *few)
    done = command("--features", features, "--out", tmp_path, *chosen)
    assert done.returncode == 0, done.stderr
    tuning = json.loads((tmp_path / "results.json").read_text())["tuning"]
    assert len(tuning["mlp"]) == 8
    assert sum(trial["chosen"] for trial in tuning["mlp"]) == 1
    best = max(trial["macro_f1"] or 0.0 for trial in tuning["mlp"])
    assert next(trial for trial in tuning["mlp"] if trial["chosen"])["macro_f1"] == best


@pytest.fixture(scope="module")
def described(features: Path) -> tuple[Path, Path]:
    """A file of sound alone, and descriptions whose words say the label where the row's number is odd."""
    with np.load(features) as arrays:
        sound, label = arrays["sound"], arrays["label"]
    words = [f"at the {name}" if i % 2 else "" for i, name in enumerate(label)]
    texts = features.with_name("texts.csv")
    rows = [f"v{i},{text},{name}" for i, (text, name) in enumerate(zip(words, label, strict=True))]
    texts.write_text("\n".join(["video_id,description,label", *rows]), encoding="utf-8")
    np.savez(features.with_name("sound.npz"), sound=sound)
    return features.with_name("sound.npz"), texts


def test_a_study_starts_from_words(described: tuple[Path, Path], tmp_path: Path) -> None:
    file, texts = described
    few = ("--methods", "logistic,majority", "--seeds", "2", "--skip", "completion,modalities,absence", "--jobs", "1")
    sets = ("--set", "features.textual.dim=8", "--set", "features.words.extractor=wordllama")
    scores = {}
    for modalities in ("sound", "sound,words", "sound,textual,words"):
        out = tmp_path / modalities
        done = command("--features", file, "--texts", texts, "--out", out, *few, *sets, "--modalities", modalities)
        assert done.returncode == 0, done.stderr
        results = json.loads((out / "results.json").read_text())
        assert set(results["dims"]) == set(modalities.split(","))
        scores[modalities] = np.mean(results["methods"]["logistic"]["macro_f1"]["values"])
    assert results["dims"] == {"sound": 2, "textual": 8, "words": 256}
    assert results["settings"]["features"]["words"]["extractor"] == "wordllama"
    assert any("in the order of the rows" in note for note in results["notices"])
    assert min(scores["sound,words"], scores["sound,textual,words"]) > scores["sound"] + 0.1
    compare = [NMCL, "compare", tmp_path / "sound", tmp_path / "sound,words"]
    table = subprocess.run(compare, capture_output=True, text=True, check=True).stdout
    gain = scores["sound,words"] - scores["sound"]
    assert f"{gain:+.3f}" in next(line for line in table.splitlines() if "logistic" in line)
    found = json.loads(subprocess.run([*compare, "--json"], capture_output=True, text=True, check=True).stdout)
    assert [row["method"] for row in found] == ["logistic", "majority"]
    assert found[0]["other_macro_f1"] - found[0]["macro_f1"] == pytest.approx(gain)
    assert found[0]["interval"][0] > 0 == found[1]["interval"][0]
    assert 0 < found[0]["splits_p_value"] < 1
    assert found[1]["splits_p_value"] is None  # the majority never differs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": None, "sets": ["features.words.extractor=wordllama"]}, "--set is for the feature sets of --texts"),
        ({"sets": ["model.dropout=0.1"]}, "model cannot be set with --texts"),
        ({"sets": ["features.sound.extractor=wordllama"]}, "both have sound.*another name"),
        ({"modalities": "smell"}, "no modality smell; there are ngrams, sound, textual, words"),
        ({"texts": Path("absent.csv")}, "absent.csv cannot be read"),
        ({"features": None, "store": Path("out")}, "a store has its own descriptions"),
    ],
)
def test_mistakes_with_words_are_said(
    described: tuple[Path, Path], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file, texts = described
    options = StudyOptions(**{"features": file, "texts": texts, "out": tmp_path / "out", "seeds": 1, **changes})
    with pytest.raises(UserError, match=message):
        reproduce(options, silent, "nmcl reproduce")


def test_real_descriptions_beside_real_sound(shared: Path, tmp_path: Path) -> None:
    """1,950 Vine descriptions; both text sets predict the venue better than sound alone."""
    folder = shared / "features/vine15"
    few = {"methods": "logistic", "seeds": 1, "skip": "completion,modalities,absence", "jobs": 1}
    scores = {}
    for modalities in ("acoustic", "textual", "words"):
        options = StudyOptions(
            out=tmp_path / modalities,
            features=folder / "acoustic.npz",
            texts=folder / "descriptions.csv",
            sets=["features.words.extractor=wordllama"],
            modalities=modalities,
            **few,  # type: ignore[arg-type]
        )
        data = reproduce(options, silent, "nmcl reproduce")
        assert (data.rows.train, data.rows.validation, data.rows.test) == (1200, 300, 450)
        assert data.n_classes == 15
        scores[modalities] = data.methods[0].macro_f1.mean or 0.0
    assert min(scores["textual"], scores["words"]) > scores["acoustic"]


def test_dare_without_sounds_is_dare_lite_and_with_them_dare(features: Path, tmp_path: Path) -> None:
    few = ("--methods", "dare", "--seeds", "1", "--skip", "completion,modalities,absence", "--jobs", "1")
    done = command("--features", features, "--out", tmp_path / "lite", *few)
    assert done.returncode == 0, done.stderr
    assert list(json.loads((tmp_path / "lite" / "results.json").read_text())["methods"]) == ["dare_lite"]
    assert "dare_lite is used instead" in done.stdout.replace("\n", " ")
    random = np.random.default_rng(0)
    np.savez(tmp_path / "sounds.npz", sound=random.normal(size=(50, 2)), tags=random.integers(0, 2, (50, 7)))
    done = command("--features", features, "--out", tmp_path / "whole", *few, "--sounds", tmp_path / "sounds.npz")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert list(results["methods"]) == ["dare"]
    assert results["settings"]["methods"]["dare"]["n_concepts"] == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": None}, "either --features"),
        ({"methods": "nmcl,oracle"}, "'oracle'. Expected one of nmcl"),
        ({"features": Path("absent.npz")}, "no file absent.npz"),
        ({"modalities": "smell"}, "no modality smell"),
        ({"skip": "figures"}, "Expected one of modalities"),
        ({"taxonomy": Path("absent.csv")}, "absent.csv"),
        ({"features": None, "store": Path("nowhere")}, "nowhere"),
    ],
)
def test_mistakes_are_said(features: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    options = StudyOptions(**{"features": features, "out": tmp_path / "out", "seeds": 1, **changes})
    with pytest.raises(UserError, match=message):
        reproduce(options, silent, "nmcl reproduce")


def test_all_methods_are_asked_for_by_default(features: Path, tmp_path: Path) -> None:
    """DARE's place is taken by dare_lite, and the order is that of the registry."""
    models, _ = chosen_models(StudyOptions(tmp_path, features), read_feature_file(features))
    assert list(models) == [name for name in MODELS if name != "dare"]


def test_an_out_that_cannot_be_written_is_said_without_a_trace_before_the_work(features: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("--features", features, "--out", tmp_path / "file" / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr


def test_departures_from_the_paper_are_methods_of_their_own(features: Path) -> None:
    options = StudyOptions(Path("unused"), features, methods="nmcl", deviations=True)
    models, _ = chosen_models(options, read_feature_file(features))
    assert list(models)[:2] == ["nmcl", "printed_gate"]
    assert models["printed_gate"].settings.gate == "paper"
    named = replace(options, methods="printed_memory", deviations=False)
    assert list(chosen_models(named, read_feature_file(features))[0]) == ["printed_memory"]
