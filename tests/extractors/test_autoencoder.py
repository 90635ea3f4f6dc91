"""The autoencoder against a transcription of its formulas, and on sounds whose structure is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from nmcl.extractors.autoencoder import (
    CHUNK_FRAMES,
    CLIP_DEVIATIONS,
    Autoencoder,
    AutoencoderSettings,
    train_autoencoder,
)
from nmcl.pipeline.records import State

SMALL = AutoencoderSettings(layers=(24, 16, 6), epochs=4, fine_tune_epochs=60, min_steps=0, learning_rate=1e-2)
N_BINS = 40


def spectra(n_frames: int, seed: int) -> np.ndarray:
    """Frames in dB that three hidden numbers decide, the same way for every seed, plus a little noise."""
    basis = np.random.default_rng(99).standard_normal((3, N_BINS))
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((n_frames, 3))
    return (-40 + 8 * np.tanh(hidden @ basis) + 0.5 * rng.standard_normal((n_frames, N_BINS))).astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Autoencoder:
    return train_autoencoder(spectra(1500, seed=1), SMALL)[0]


def sigmoid(x: float) -> float:
    return 1 / (1 + float(np.exp(-x)))


def test_codes_equal_the_formula(trained: Autoencoder) -> None:
    frame = spectra(1, seed=2)[0]
    y = [
        max(-CLIP_DEVIATIONS, min(CLIP_DEVIATIONS, (float(v) - float(m)) / float(d)))
        for v, m, d in zip(frame, trained.mean, trained.deviation, strict=True)
    ]
    for weight, bias in trained.encoder:
        y = [sigmoid(sum(w * v for w, v in zip(row, y, strict=True)) + b) for row, b in zip(weight, bias, strict=True)]
    np.testing.assert_allclose(trained.encode(frame[None])[0], y, atol=1e-5)
    for weight, bias in trained.decoder[:-1]:
        y = [sigmoid(sum(w * v for w, v in zip(row, y, strict=True)) + b) for row, b in zip(weight, bias, strict=True)]
    weight, bias = trained.decoder[-1]
    np.testing.assert_allclose(trained.decode(trained.encode(frame[None]))[0], weight @ y + bias, atol=1e-4)


def test_one_step_is_adams_first_step_down_the_gradient() -> None:
    """Without corruption, one layer, one step: every weight moves equally far against its gradient."""
    settings = AutoencoderSettings(layers=(5,), corruption=0, epochs=0, fine_tune_epochs=1, min_steps=0, batch_size=100)
    frames = spectra(100, seed=3)
    after = train_autoencoder(frames, settings)[0]
    start = train_autoencoder(frames, replace(settings, fine_tune_epochs=0))[0]
    x = start.scale(frames).astype(np.float64)
    (w, b), (v, c) = start.encoder[0], start.decoder[0]
    code = 1 / (1 + np.exp(-(x @ w.T + b)))
    residual = 2 * (code @ v.T + c - x) / len(x)  # of the squared error, summed over bins, mean over frames
    gradient_v = residual.T @ code
    gradient_w = (residual @ v * code * (1 - code)).T @ x
    for gradient, old, new in ((gradient_v, v, after.decoder[0][0]), (gradient_w, w, after.encoder[0][0])):
        clear = np.abs(gradient) > 1e-3
        assert clear.mean() > 0.8
        assert (np.sign(old - new) == np.sign(gradient))[clear].all()
        moved = np.abs(old - new)[clear]
        np.testing.assert_allclose(moved, moved.mean(), rtol=0.02)


def test_restores_unseen_frames_far_better_than_their_mean(trained: Autoencoder) -> None:
    error = trained.relative_error(spectra(500, seed=4))
    assert error is not None
    assert error < 0.3


def test_pre_training_helps_the_tuning() -> None:
    frames = spectra(1000, seed=1)
    brief = replace(SMALL, fine_tune_epochs=3)
    with_it, without = (train_autoencoder(frames, replace(brief, epochs=n))[0] for n in (10, 0))
    unseen = spectra(500, seed=4)
    assert (with_it.relative_error(unseen) or 0) < (without.relative_error(unseen) or 0)


def test_the_mean_predictor_has_relative_error_one(trained: Autoencoder) -> None:
    (weight, bias), *rest = trained.decoder[::-1]
    knows_nothing = replace(trained, decoder=(*rest[::-1], (weight * 0, bias * 0)))
    assert knows_nothing.relative_error(spectra(300, seed=5)) == pytest.approx(1)


def test_relative_error_of_nothing_is_none(trained: Autoencoder) -> None:
    assert trained.relative_error(np.empty((0, N_BINS), np.float32)) is None
    assert trained.relative_error(trained.mean[None]) is None


def test_curves_tell_every_epoch_and_fall() -> None:
    _, curves = train_autoencoder(spectra(600, seed=1), SMALL)
    assert [len(layer) for layer in curves["layers"]] == [4, 4, 4]
    assert len(curves["fine_tune"]) == 60
    assert curves["fine_tune"][-1] < curves["fine_tune"][0]


def test_same_seed_same_bytes() -> None:
    brief = replace(SMALL, fine_tune_epochs=2)
    states = [train_autoencoder(spectra(300, seed=1), replace(brief, seed=s))[0].to_state({}) for s in (3, 3, 4)]
    same, again, other = ({name: array.tobytes() for name, array in state.arrays.items()} for state in states)
    assert same == again
    assert same != other


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_autoencoder(spectra(50, seed=1), replace(SMALL, fine_tune_epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("n_frames", [1, 2, 7, 300])
def test_few_frames_are_passed_more_often(n_frames: int) -> None:
    settings = replace(SMALL, epochs=1, fine_tune_epochs=1, min_steps=10)
    autoencoder, curves = train_autoencoder(spectra(n_frames, seed=1), settings)
    assert len(curves["fine_tune"]) == (5 if n_frames == 300 else 10)
    assert np.isfinite(autoencoder.encode(spectra(3, seed=2))).all()


def test_frames_without_any_difference_are_finite() -> None:
    autoencoder, _ = train_autoencoder(np.full((20, N_BINS), -100, np.float32), replace(SMALL, fine_tune_epochs=2))
    assert np.isfinite(autoencoder.encode(spectra(20, seed=1))).all()


@pytest.mark.parametrize("n_frames", [1, CHUNK_FRAMES - 1, CHUNK_FRAMES, CHUNK_FRAMES + 1, 3 * CHUNK_FRAMES])
def test_codes_do_not_depend_on_the_frames_beside_them(trained: Autoencoder, n_frames: int) -> None:
    frames = spectra(3 * CHUNK_FRAMES, seed=6)
    assert trained.encode(frames[:n_frames]).tobytes() == trained.encode(frames)[:n_frames].tobytes()


def test_codes_do_not_depend_on_the_number_of_threads() -> None:
    """At full width, where matrix products are shared out."""
    settings = AutoencoderSettings(epochs=0, fine_tune_epochs=0)
    frames = np.random.default_rng(1).normal(-40, 20, (300, 513)).astype(np.float32)
    autoencoder, _ = train_autoencoder(frames, settings)
    n_threads, codes = torch.get_num_threads(), []
    try:
        for n in (1, 2, 4):
            torch.set_num_threads(n)
            codes.append(autoencoder.encode(frames).tobytes())
    finally:
        torch.set_num_threads(n_threads)
    assert len(set(codes)) == 1


def test_no_frames_no_codes(trained: Autoencoder) -> None:
    assert trained.encode(np.empty((0, N_BINS), np.float32)).shape == (0, 6)


def test_state_round_trip(trained: Autoencoder) -> None:
    frozen = {
        name: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for name, a in trained.to_state({}).arrays.items()
    }
    again = Autoencoder.from_state(State(arrays=frozen))  # read-only, as a file gives them
    frames = spectra(200, seed=7)
    assert again.encode(frames).tobytes() == trained.encode(frames).tobytes()
    assert again.relative_error(frames) == trained.relative_error(frames)


@pytest.mark.parametrize(
    "wrong", [{"layers": []}, {"layers": [5, 0]}, {"corruption": -0.1}, {"batch_size": 0}, {"learning_rate": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(AutoencoderSettings).validate_python(wrong)
