"""timm models against timm itself: preprocessing, features, and the names of weights."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nmcl.extractors.timm import TimmExtractor, TimmSettings
from nmcl.pipeline import optional
from nmcl.pipeline.errors import SettingsError, UserError, WeightsError
from nmcl.pipeline.records import Clip, State
from tests import tiny

NETWORKS = ["test_vit.r160_in1k", "test_resnet.r160_in1k", "test_efficientnet.r160_in1k"]


def photo(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def extractor(name: str, **settings: object) -> TimmExtractor:
    return TimmExtractor(TimmSettings(*tiny.timm_model(name), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(320, 240), (201, 377), (640, 361), (160, 160)])
@pytest.mark.parametrize(
    "model", ["test_vit.r160_in1k", "resnet50.a1_in1k", "eva02_tiny_patch14_336.mim_in22k_ft_in1k", "inception_v3"]
)
def test_pictures_are_those_of_timms_own_transform(model: str, size: tuple[int, int]) -> None:
    """Of models with bilinear and bicubic scaling, cropped and squashed, and three normalisations."""
    image, ours = photo(*size), TimmExtractor(TimmSettings(model)).preprocess
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(model).to_dict())
    expected = timm.data.create_transform(**config)(image)
    pixels = torch.from_numpy(ours(np.asarray(image)).copy()).permute(2, 0, 1) / 255
    found = (pixels - torch.tensor(ours.mean).view(3, 1, 1)) / torch.tensor(ours.std).view(3, 1, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_timm_without_its_classifier(name: str) -> None:
    own = extractor(name)
    frames = np.random.default_rng(0).integers(0, 256, (3, tiny.TIMM_SIDE, tiny.TIMM_SIDE, 3), dtype=np.uint8)
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    assert network.load_state_dict(load_file(own.settings.weights), strict=False).missing_keys == []
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (own.preprocess.mean, own.preprocess.std))
    with torch.no_grad():
        expected = network((torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - mean) / std).mean(dim=0).numpy()
    assert own.dim == len(expected)
    np.testing.assert_allclose(own.extract([Clip(frames, (0.0, 1.0, 2.0))], State())[0], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n_classes", [0, 7])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_a_fine_tuned_model(n_classes: int, suffix: str, tmp_path: Path) -> None:
    """Its classifier does not matter, and its tensors are the ones used."""
    torch.manual_seed(1)
    name, path = NETWORKS[1], str(tmp_path / f"tuned{suffix}")
    tuned = timm.create_model(name, pretrained=False, num_classes=n_classes).state_dict()
    save_file(tuned, path) if suffix == ".safetensors" else torch.save({"state_dict": tuned}, path)
    loaded = TimmExtractor(TimmSettings(name, path)).plain_network().state_dict()
    assert loaded
    assert all(torch.equal(tensor, tuned[key]) for key, tensor in loaded.items())


def test_the_length_is_known_without_weights() -> None:
    lengths = [TimmExtractor(TimmSettings(name)).dim for name in ("", "mobilenetv3_small_050", "resnet50") if name]
    assert lengths == [1024, 2048]
    assert TimmExtractor(TimmSettings()).dim == 768


def test_the_address_holds_the_digest_of_the_weights(tmp_path: Path) -> None:
    one = extractor(NETWORKS[0])
    path = Path(one.settings.weights)
    assert one.address()["weights"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "copy.safetensors").write_bytes(path.read_bytes())
    copy = TimmExtractor(TimmSettings(NETWORKS[0], str(tmp_path / "copy.safetensors"), device="cpu", sequence=True))
    assert copy.address() == one.address()
    other = [extractor(NETWORKS[1]), extractor(NETWORKS[0], key_frames=3), extractor(NETWORKS[0], precision="bfloat16")]
    assert all(each.address() != one.address() for each in other)


def test_weights_by_name_come_from_the_users_cache(tmp_path: Path) -> None:
    """A cache as the hub's own client lays it out; a child, because the client reads its place once."""
    name, path = tiny.timm_model(NETWORKS[0])
    repo = tmp_path / f"models--timm--{name}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40)
    (repo / "blobs").mkdir()
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    (repo / "blobs" / digest).write_bytes(Path(path).read_bytes())
    (repo / "snapshots" / ("a" * 40)).mkdir(parents=True)
    (repo / "snapshots" / ("a" * 40) / "model.safetensors").symlink_to(repo / "blobs" / digest)
    script = (
        "from nmcl.extractors.timm import TimmExtractor, TimmSettings\n"
        f"e = TimmExtractor(TimmSettings({name!r})); e.check()\n"
        "print(e.address()['weights'], len(e.plain_network().state_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [digest, str(len(extractor(name).plain_network().state_dict()))]


def test_weights_that_are_not_here_name_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"not in the Hugging Face cache.*\n.*create_model.*\n.*NAME\.weights="):
        TimmExtractor(TimmSettings("resnet10t.c3_in1k")).check()


def test_weights_of_another_model_are_refused() -> None:
    wrong = TimmExtractor(TimmSettings(NETWORKS[1], tiny.timm_model(NETWORKS[0])[1]))
    with pytest.raises(WeightsError, match=r"does not fit the timm model test_resnet"):
        wrong.check()


def test_a_file_without_some_tensors_is_refused(tmp_path: Path) -> None:
    """They would be random."""
    name, path = tiny.timm_model(NETWORKS[1])
    tensors = load_file(path)
    del tensors["layer1.0.conv1.weight"]
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight"):
        TimmExtractor(TimmSettings(name, str(tmp_path / "part.safetensors"))).check()


@pytest.mark.parametrize(
    ("model", "said"),
    [("resnet_50", "Did you mean resnet50"), ("vit_base_patch16_sapiens2.fb", "1024 x 768"), ("", "model is ''")],
)
def test_models_that_cannot_be_used(model: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        TimmExtractor(TimmSettings(model)).check()


def test_an_absent_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda module: False)
    with pytest.raises(UserError, match=r"needs the package timm.*pip install 'nmcl\[timm\]'"):
        TimmExtractor(TimmSettings()).check()
