"""`--features`: some of a store's feature sets for one command, which neither forgets nor changes the others."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from nmcl.flows.cli.study import stored_features
from nmcl.flows.retrain.context import Options, settings_for
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import merged
from nmcl.flows.stored_settings import of_store, remember
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.storage.runs import champion
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl as process

WORDS = {"words": {"extractor": "paragraph_vectors", "dim": 12, "min_words": 1000}}
ALL = ["visual", "acoustic", "textual", "words"]


def nmcl(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.stderr, done.exception)
    return done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, SettingsError)
    return str(done.exception)


def made(out: Path) -> list[str]:
    """The feature sets that have vectors."""
    return sorted(path.name.rsplit("-", 1)[0] for path in (out / "features").iterdir())


@pytest.fixture(scope="module")
def out(small_crawl: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with four feature sets, of which none is extracted."""
    out = tmp_path_factory.mktemp("some") / "out"
    remember(Store.create(out), from_tree(merged(to_tree(quick), {"features": WORDS})))
    nmcl("ingest", small_crawl, "--out", out)
    return out


@pytest.fixture(scope="module")
def trained(out: Path) -> Path:
    """The same, with a run on two of them, and then one on all."""
    nmcl("evaluate", "--out", out, "--features", "words,textual")
    assert made(out) == ["textual", "words"]
    before = {path.name for path in (out / "features").iterdir()}
    nmcl("evaluate", "--out", out)
    assert made(out) == sorted(ALL)
    assert before < {path.name for path in (out / "features").iterdir()}  # the same addresses
    return out


def dims(out: Path) -> list[dict[str, int]]:
    """The feature sets of all runs with their dimensions."""
    found = [json.loads(path.read_text())["dims"] for path in (out / "runs").glob("*/model.json")]
    return sorted(found, key=len)


def test_a_command_uses_the_named_sets_only_and_the_store_keeps_all(trained: Path) -> None:
    assert dims(trained) == [
        {"textual": 100, "words": 12},
        {"acoustic": 200, "textual": 100, "visual": 1280, "words": 12},
    ]
    assert list(of_store(Store.open(trained), {}).features) == ALL
    run = champion(Store.open(trained))
    assert run is not None
    assert list(from_tree(dict(run.settings)).features) == ["textual", "words"]  # those that predictions need


def test_the_order_of_the_names_changes_nothing(trained: Path) -> None:
    before = sorted(path.name for path in (trained / "runs").iterdir())
    nmcl("train", "--out", trained, "--features", "textual , words,textual")
    assert sorted(path.name for path in (trained / "runs").iterdir()) == before


def test_a_prediction_uses_the_sets_of_its_run(trained: Path, small_crawl: Path, tmp_path: Path) -> None:
    nmcl("predict", small_crawl, "--model", trained, "--out", tmp_path / "venues.parquet")
    assert pq.read_table(tmp_path / "venues.parquet").num_rows == 14


def test_vectors_completed_together_are_exported(trained: Path, tmp_path: Path) -> None:
    """Of the four sets together if they are completed, else of the named ones."""
    file = tmp_path / "features.npz"
    export = ("export", "--out", trained, "--format", "npz", "--to", file, "--missing", "completed", "--force")
    nmcl("complete", "--out", trained, "--set", "completion.seed=1", "--features", "words,acoustic")
    nmcl(*export, "--features", "words,acoustic")
    with np.load(file) as arrays:
        assert {name for name in arrays if name.startswith("X_")} == {"X_words", "X_acoustic"}
        assert not arrays["observed_acoustic"].all()
        assert not np.isnan(arrays["X_acoustic"]).any()


def test_a_study_needs_only_the_named_sets(small_crawl: Path, quick: Settings, tmp_path: Path) -> None:
    remember(Store.create(tmp_path / "out"), quick)
    nmcl("ingest", small_crawl, "--out", tmp_path / "out")
    nmcl("extract", "--out", tmp_path / "out", "--features", "textual")
    table = stored_features(tmp_path / "out", ("textual",))
    assert list(table.modalities) == ["textual"]
    numbers = [int(name.removeprefix("clips/").removesuffix(".mp4")) for name in table.names]
    assert [i % 2 for i in numbers] == table.label.tolist()  # Beach and Slope by turns
    with pytest.raises(SettingsError, match=r"no feature set 'text'\. Did you mean textual\?"):
        stored_features(tmp_path / "out", ("text",))


@pytest.mark.parametrize("command", ["fit", "extract", "complete", "train", "evaluate", "retry", "export", "run"])
def test_a_wrong_name_is_one_sentence_with_the_sets(out: Path, small_crawl: Path, command: str) -> None:
    more = {"export": ["--format", "parquet"], "run": [small_crawl]}.get(command, [])
    said = refused(command, *more, "--out", out, "--features", "words,sound")
    assert said == "There is no feature set 'sound'. Expected some of visual, acoustic, textual, words."


def test_a_wrong_name_creates_no_store(small_crawl: Path, tmp_path: Path) -> None:
    refused("run", small_crawl, "--out", tmp_path / "new", "--features", "sound")
    assert not (tmp_path / "new").exists()


def test_a_challenger_with_fewer_sets_needs_refit(trained: Path) -> None:
    context = Context(Store.open(trained), from_tree({}))
    both = settings_for(context, {}, Options(features=("textual", "words")))
    assert list(both.settings.features) == ["textual", "words"]
    with pytest.raises(SettingsError, match=r"uses the feature sets textual, words, not only words.*--refit"):
        settings_for(context, {}, Options(features=("words",)))
    assert list(settings_for(context, {}, Options(features=("words",), refit=True)).settings.features) == ["words"]
    with pytest.raises(SettingsError, match=r"no feature set 'visual'\. Expected some of textual, words"):
        settings_for(context, {}, Options(features=("visual",), refit=True))


@pytest.mark.services
def test_a_run_and_a_retraining_in_prefect_use_them_too(
    small_crawl: Path, quick: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    remember(Store.create(out), from_tree(merged(to_tree(quick), {"features": WORDS})))
    process("run", small_crawl, "--out", out, "--features", "textual,words", **environment)
    assert made(out) == ["textual", "words"]
    process("retrain", "--out", out, "--refit", "--features", "words", **environment)
    assert {"words": 12} in dims(out)
    assert list(of_store(Store.open(out), {}).features) == ALL
