"""The sound tagger against librosa and against a plain computation of its network."""

import hashlib
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch

from nmcl.extractors.tagger import RATE_HZ, STEP, TaggerExtractor, TaggerSettings, steps_of
from nmcl.pipeline.errors import SettingsError, WeightsError
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.records import Clip, State
from tests import tiny


def extractor(sequence: bool = False) -> TaggerExtractor:
    return TaggerExtractor(TaggerSettings(*tiny.tagger(), sequence=sequence))


def sound(seconds: float, hz: float = 440.0) -> np.ndarray:
    """A tone over noise."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(0).normal(size=len(t))
    return (6000 * np.sin(2 * np.pi * hz * t) + 500 * noise).astype(np.int16)


def librosa_levels(samples: np.ndarray) -> np.ndarray:
    """Log-mel levels as PANNs define them, shape (64, 97)."""
    power = librosa.feature.melspectrogram(
        y=samples, sr=16_000, n_fft=512, hop_length=160, pad_mode="reflect", n_mels=64, fmin=50, fmax=8000
    )
    return librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)


@pytest.mark.parametrize("hz", [100.0, 1000.0, 7000.0])
def test_levels_are_librosas(hz: float) -> None:
    samples = sound(0.96, hz).astype(np.float32) / 32768
    with torch.inference_mode():
        found = extractor().network().logmel_extractor(torch.from_numpy(samples)[None])[0].numpy()
    assert found.shape == (64, 97)
    np.testing.assert_allclose(found, librosa_levels(samples), atol=2e-3)


def plain_tags(samples: np.ndarray) -> np.ndarray:
    """The network by NumPy, step by step, in float64."""
    file = torch.load(tiny.tagger()[0], weights_only=True)["model"]
    tensors = {name: tensor.numpy().astype(np.float64) for name, tensor in file.items()}

    def norm(x: np.ndarray, name: str, axis: int) -> np.ndarray:
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        weight, bias, mean, var = (
            tensors[f"{name}.{part}"].reshape(shape) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.einsum("chwij,ocij->ohw", windows, kernel)

    def halved(x: np.ndarray) -> np.ndarray:
        height, width = x.shape[1] // 2, x.shape[2] // 2
        return x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2).mean(axis=(2, 4))

    x = norm(librosa_levels(samples).astype(np.float64), "bn0", 0).T[None]
    for i in range(1, 7):
        for j in (1, 2):
            x = convolved(x, tensors[f"conv_block{i}.conv{j}.weight"])
            x = np.maximum(norm(x, f"conv_block{i}.bn{j}", 0), 0)
        x = halved(x) if i < 6 else x
    x = x.mean(axis=2)
    x = np.maximum(tensors["fc1.weight"] @ (x.max(axis=1) + x.mean(axis=1)) + tensors["fc1.bias"], 0)
    return 1 / (1 + np.exp(-(tensors["fc_audioset.weight"] @ x + tensors["fc_audioset.bias"])))


def test_probabilities_are_those_of_a_plain_computation() -> None:
    waveform = np.concatenate([sound(0.96, 200.0), sound(1.5, 4000.0) // 100])
    found = extractor(sequence=True).extract([Clip(waveform=waveform)], State())
    assert isinstance(found, Extracted)
    expected = [plain_tags(step.astype(np.float32) / 32768) for step in waveform[: 2 * STEP].reshape(2, STEP)]
    np.testing.assert_allclose(found.sequences[0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found.vectors[0], np.mean(expected, axis=0), rtol=1e-3, atol=1e-4)
    assert found.times_s[0] == (0.0, 0.96)
    assert np.ptp(expected, axis=0).max() > 2e-3


@pytest.mark.parametrize(("n_samples", "n_steps"), [(1, 1), (STEP, 1), (2 * STEP - 1, 1), (2 * STEP, 2)])
def test_steps_of_a_sound(n_samples: int, n_steps: int) -> None:
    waveform = np.arange(1, n_samples + 1).astype(np.int16)
    steps = steps_of(waveform)
    assert steps.shape == (n_steps, STEP)
    n_kept = min(n_samples, n_steps * STEP)
    np.testing.assert_array_equal(steps.ravel()[:n_kept], waveform[:n_kept])
    assert not steps.ravel()[n_kept:].any()


def test_dimensions_are_the_classes(tmp_path: Path) -> None:
    names = ("Speech", "Male speech, man speaking", "Music", "Violin", "Silence")
    assert (extractor().dimensions, extractor().dim) == (names, 5)
    weights, _ = tiny.tagger()
    address = extractor().address()
    assert address["dimensions"] == list(names)
    assert address["weights"] == hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    lines = tmp_path / "classes.txt"
    lines.write_text("\n".join(names) + "\n")
    assert TaggerExtractor(TaggerSettings(weights, str(lines))).address() == address


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    weights, classes = tiny.tagger()
    tensors = torch.load(weights, weights_only=True)["model"]
    wrong = {
        r"conv_block3\.conv1": {k: t for k, t in tensors.items() if k != "conv_block3.conv1.weight"},
        "melW": {**tensors, "logmel_extractor.melW": torch.zeros(513, 64)},  # of 32 kHz
        "does not fit the tagger": {**tensors, "fc_audioset.weight": torch.zeros(12)},
    }
    for said, content in wrong.items():
        torch.save({"model": content}, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=said):
            TaggerExtractor(TaggerSettings(str(tmp_path / "wrong.pth"), classes)).check()
    few = tmp_path / "few.txt"
    few.write_text("Speech\nMusic\n")
    with pytest.raises(WeightsError, match=r"has 5 classes, but .*few\.txt 2 names"):
        TaggerExtractor(TaggerSettings(weights, str(few))).check()
    few.write_text("Speech\nSpeech\n")
    with pytest.raises(SettingsError, match="some empty or equal"):
        TaggerExtractor(TaggerSettings(weights, str(few))).check()


def test_files_that_are_not_named() -> None:
    with pytest.raises(WeightsError, match="needs a weights file, such as the published"):
        TaggerExtractor(TaggerSettings("", tiny.tagger()[1])).check()
    with pytest.raises(SettingsError, match="classes is ''"):
        TaggerExtractor(TaggerSettings(tiny.tagger()[0])).check()
