"""Damaged, hostile and mixed-up model files end in a ModelError, never in code run or memory taken."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as parse
from safetensors.torch import save as encode

from nmcl.model.checkpoint import load, save
from nmcl.model.data import Dataset
from nmcl.model.nmcl.stacking import ALL_STACKED
from nmcl.model.trained import Trained, fit
from nmcl.pipeline.errors import ModelError, StoreError
from tests.model.conftest import CLASSES, quick, stacked


@pytest.fixture(scope="module")
def trained(train: Dataset, validation: Dataset) -> Trained:
    return fit("nmcl_stacked", train, validation, CLASSES, stacked())


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    save(trained, tmp_path)
    return tmp_path


def set_card(folder: Path, **changes: Any) -> None:
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, **changes}))


def set_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the arrays and keep the digest right, as a malicious author would."""
    tensors = parse((folder / "model.safetensors").read_bytes())
    change(tensors)
    content = encode(tensors)
    (folder / "model.safetensors").write_bytes(content)
    set_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_truncated_or_scribbled_file(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\x80\x04" + content, content[:-8] + b"\xff" * 8):
        (folder / name).write_bytes(damaged)
        with pytest.raises(ModelError, match=name):
            load(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder)


def test_weights_of_another_save(folder: Path, train: Dataset, validation: Dataset, tmp_path: Path) -> None:
    save(fit("nmcl_stacked", train, validation, CLASSES, stacked(), seed=1), tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(ModelError, match="of another model"):
        load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"name": "os.system"},
        {"venues": ["beach"]},
        {"venues": ["beach"] * 4},
        {"venues": "beach"},
        {"dims": {}},
        {"dims": {"sight": 3, "sound": 2}},
        {"dims": {"sight": 3, "sound": 2, "words": 5}},
        {"dims": {"sight": 3, "sound": 2, "words": 0}},
        {"dims": {"sight": 1 << 24, "sound": 1 << 24, "words": 1 << 24}},
        {"dims": {"sight": 1 << 60, "sound": 2, "words": 4}},
        {"settings": {"hidden": 17}},
        {"settings": {"hidden": 16, "gate": "open"}},
        {"settings": {"hidden": 16, "__class__": "x"}},
        {"settings": {"train": {"learning_rate": "fast"}}},
        {"history": [{"number": 1}]},
        {"weights_sha256": "0" * 64},
        {"weights_sha256": "../../etc"},
        {"extra": 1},
    ],
)
def test_a_card_that_lies(folder: Path, changes: dict[str, Any]) -> None:
    set_card(folder, **changes)
    with pytest.raises(ModelError):
        load(folder)


def test_json_that_is_not_plain(folder: Path) -> None:
    for content in ("[" * 100_000, "NaN", '{"format": NaN}', "null", "\ud800".encode("utf-8", "surrogatepass")):
        (folder / "model.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ModelError):
            load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("mean.0"),
        lambda tensors: tensors.update(extra=torch.zeros(1)),
        lambda tensors: tensors.update({"mean.0": torch.zeros(9)}),
        lambda tensors: tensors.update({"mean.0": tensors["mean.0"].double()}),
        lambda tensors: tensors["mean.0"].fill_(torch.nan),
        lambda tensors: tensors["scale.1"].zero_(),
        lambda tensors: tensors["network.nmcl.heads.0.hidden.weight"].fill_(torch.inf),
    ],
)
def test_arrays_that_do_not_fit(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    set_tensors(folder, change)
    with pytest.raises(ModelError):
        load(folder)


def test_a_folder_that_cannot_be_written(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        save(trained, tmp_path / "file")


def test_saving_again_replaces(folder: Path, trained: Trained, train: Dataset, validation: Dataset) -> None:
    other = fit("nmcl_stacked", train, validation, CLASSES, stacked(hidden=8), seed=1)
    save(other, folder)
    np.testing.assert_array_equal(
        load(folder).predict(validation.modalities).probability, other.predict(validation.modalities).probability
    )


def test_a_card_of_a_version_that_knew_fewer_settings(folder: Path, trained: Trained, validation: Dataset) -> None:
    """What it did not know has its reference, whatever the default is by now."""
    settings = json.loads((folder / "model.json").read_text())["settings"]
    del settings["modality_dropout"], settings["train"]["weight_decay"]
    set_card(folder, settings=settings)
    loaded = load(folder)
    assert loaded.settings == trained.settings
    np.testing.assert_array_equal(
        loaded.predict(validation.modalities).probability, trained.predict(validation.modalities).probability
    )


def as_earlier(folder: Path, peers: tuple[str, ...]) -> dict[str, Any]:
    """Give a model the names of earlier versions. Returns its settings."""
    settings: dict[str, Any] = json.loads((folder / "model.json").read_text())["settings"]
    alone = "stacked_with" not in settings

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("network.")]:
            before = name.replace("network.", "network.nmcl.") if alone else name
            for current, earlier in (
                ("network.nmcl.", "network.members.0."),
                ("network.stacking.", "network.peers."),
                (".inverse_temperature", ".sharpness"),
                ("_classifier.", "_opinion."),
            ):
                before = before.replace(current, earlier)
            tensors[before] = tensors.pop(name)

    set_tensors(folder, rename)
    settings.pop("stacked_with", None)
    settings["opinion_weight"] = settings.pop("auxiliary_weight")
    settings["train"]["average"] = 0.9
    set_card(folder, name="nmcl", settings={**settings, "members": 1, "peers": peers})
    return settings


def test_a_model_of_a_version_with_several_networks(folder: Path, trained: Trained, validation: Dataset) -> None:
    """With one network it loads, to the same predictions; with two it is refused."""
    settings = as_earlier(folder, ALL_STACKED)
    loaded = load(folder)
    assert (loaded.name, loaded.settings) == (trained.name, trained.settings)
    np.testing.assert_array_equal(
        loaded.predict(validation.modalities).probability, trained.predict(validation.modalities).probability
    )
    set_card(folder, settings={**settings, "members": 2, "peers": []})
    with pytest.raises(ModelError, match="is of 2 networks, expected one"):
        load(folder)


def test_a_network_of_a_version_that_called_it_nmcl_without_peers(
    tmp_path: Path, train: Dataset, validation: Dataset
) -> None:
    alone = fit("nmcl", train, validation, CLASSES, quick())
    save(alone, tmp_path)
    as_earlier(tmp_path, ())
    loaded = load(tmp_path)
    assert (loaded.name, loaded.settings) == ("nmcl", alone.settings)
    np.testing.assert_array_equal(
        loaded.predict(validation.modalities).probability, alone.predict(validation.modalities).probability
    )


def test_a_card_with_a_setting_that_is_not_known(folder: Path) -> None:
    settings = json.loads((folder / "model.json").read_text())["settings"]
    set_card(folder, settings={**settings, "later": 1})
    with pytest.raises(ModelError, match="does not know"):
        load(folder)


@pytest.mark.parametrize(
    ("array", "rows", "message"),
    [
        ("0.weight", 3, "weight has 3 rows, expected"),
        ("4.branches.0.threshold", 3, "threshold has 3 rows, expected"),
        ("4.branches.0.value", 0, "expected none or all of them"),
    ],
)
def test_lengths_that_depend_on_the_training_rows_must_fit_each_other(
    folder: Path, array: str, rows: int, message: str
) -> None:
    def shorten(tensors: dict[str, torch.Tensor]) -> None:
        name = f"network.stacking.models.{array}"
        tensors[name] = tensors[name][:rows].clone()

    set_tensors(folder, shorten)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_predictions_of_validation_rows_must_be_probabilities(folder: Path, trained: Trained) -> None:
    found = load(folder).held_out
    assert found is not None
    np.testing.assert_array_equal(found, trained.held_out)
    set_tensors(folder, lambda tensors: tensors.update(held_out=tensors["held_out"] + 1))
    with pytest.raises(ModelError, match="holds no probabilities"):
        load(folder)
