"""Acoustic vectors of sounds whose kind is known."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from nmcl.extractors.acoustic import AcousticExtractor, AcousticSettings
from nmcl.extractors.autoencoder import AutoencoderSettings
from nmcl.extractors.spectrogram import SAMPLE_RATE_HZ
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, State

SMALL = AcousticSettings(
    frames_per_video=30,
    autoencoder=AutoencoderSettings(layers=(64, 16), epochs=2, fine_tune_epochs=25, min_steps=100, batch_size=64),
)


def hum(seed: int, duration_s: float = 1.0) -> Clip:
    """Overtones of a low pitch, slowly swelling."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(int(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    pitch_hz = rng.uniform(90, 130)
    sound = sum(np.sin(2 * np.pi * k * pitch_hz * times_s + rng.uniform(0, 6)) / k for k in range(1, 12))
    swell = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * times_s)
    return Clip(waveform=(3000 * sound * swell + 20 * rng.standard_normal(len(times_s))).astype(np.int16))


def rain(seed: int, duration_s: float = 1.0) -> Clip:
    """Noise that grows with frequency, in gusts."""
    rng = np.random.default_rng(seed)
    sound = np.diff(rng.standard_normal(int(duration_s * SAMPLE_RATE_HZ) + 1))
    gusts = 1 + 0.8 * np.sin(np.linspace(0, rng.uniform(5, 20), len(sound)))
    return Clip(waveform=(1500 * sound * gusts).astype(np.int16))


@pytest.fixture(scope="module")
def extractor() -> AcousticExtractor:
    return AcousticExtractor(SMALL)


@pytest.fixture(scope="module")
def state(extractor: AcousticExtractor) -> State:
    return extractor.fit((kind(seed) for seed in range(12) for kind in (hum, rain)), silent)


def test_restores_unheard_sound_better_than_the_mean(state: State) -> None:
    assert state.info["held_out_relative_error"] < 0.6
    assert state.info["n_frames"] == 22 * 30
    assert state.info["n_held_out_frames"] == 2 * 30


def test_tells_a_hum_from_rain(extractor: AcousticExtractor, state: State) -> None:
    known = extractor.extract([kind(seed) for kind in (hum, rain) for seed in range(12)], state)
    centres = known[:12].mean(axis=0), known[12:].mean(axis=0)
    for kind, own, other in ((hum, 0, 1), (rain, 1, 0)):
        for vector in extractor.extract([kind(seed) for seed in range(100, 105)], state):
            assert np.linalg.norm(vector - centres[own]) < 0.5 * np.linalg.norm(vector - centres[other])


def test_vector_is_the_mean_of_the_codes_of_its_frames(extractor: AcousticExtractor, state: State) -> None:
    """Twice the same sound, or its middle alone, has nearly the same vector: time is averaged out."""
    sound = hum(1, 2.0).waveform
    assert sound is not None
    once, twice = extractor.extract([Clip(waveform=sound), Clip(waveform=np.tile(sound, 2))], state)
    np.testing.assert_allclose(once, twice, atol=0.05)


def test_a_vector_does_not_depend_on_how_the_batch_is_cut(extractor: AcousticExtractor, state: State) -> None:
    clips = [hum(1, 0.1), rain(2, 7.0), Clip(), hum(3, 1.3), rain(4, 0.00005), hum(5, 3.0)]
    whole = extractor.extract(clips, state)
    for cut in (1, 2, 4):
        parts = [extractor.extract(clips[i : i + cut], state) for i in range(0, len(clips), cut)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert extractor.extract(clips[::-1], state)[::-1].tobytes() == whole.tobytes()


def test_no_sound_gives_a_row_of_nan(extractor: AcousticExtractor, state: State) -> None:
    vectors = extractor.extract([Clip(), hum(1), Clip(text="loud")], state)
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True]
    assert np.isfinite(vectors[1]).all()


@pytest.mark.parametrize("value", [0, 1, 32767, -32768])
def test_silence_and_clipping_have_finite_vectors(extractor: AcousticExtractor, state: State, value: int) -> None:
    assert np.isfinite(extractor.extract([Clip(waveform=np.full(3000, value, np.int16))], state)).all()


def test_one_sample_has_a_finite_vector(extractor: AcousticExtractor, state: State) -> None:
    assert np.isfinite(extractor.extract([Clip(waveform=np.array([7], np.int16))], state)).all()


def test_nothing_heard_gives_an_empty_state(extractor: AcousticExtractor) -> None:
    for clips in ([], [Clip(), Clip(text="no sound")]):
        state = extractor.fit(clips, silent)
        assert state == State()
        assert np.isnan(extractor.extract([hum(1)], state)).all()


def test_a_single_sound_can_be_learnt_from(extractor: AcousticExtractor) -> None:
    state = extractor.fit([hum(1, 0.01)], silent)
    assert state.info["n_frames"] == 1
    assert state.info["held_out_relative_error"] is None
    assert np.isfinite(extractor.extract([rain(1)], state)).all()


def test_reads_no_more_clips_than_it_wants() -> None:
    read = []

    def clips() -> Iterator[Clip]:
        for seed in range(100):
            read.append(seed)
            yield hum(seed, 0.1)

    AcousticExtractor(replace(SMALL, fit_videos=3)).fit(clips(), silent)
    assert read == [0, 1, 2]


def test_keeps_no_more_frames_than_allowed() -> None:
    state = AcousticExtractor(replace(SMALL, max_frames=50)).fit([hum(seed, 0.5) for seed in range(8)], silent)
    assert state.info["n_frames"] == 50
    assert state.info["n_held_out_frames"] == 5


def test_the_frames_kept_are_of_all_videos() -> None:
    """With more frames than there is room for, those of early and late videos are equally likely to stay."""
    quiet, loud = Clip(waveform=np.zeros(20_000, np.int16)), rain(1)
    settings = replace(SMALL, max_frames=200)
    means = [
        AcousticExtractor(settings).fit([*first, *second], silent).arrays["mean"].mean()
        for first, second in (([quiet] * 10, [loud] * 10), ([loud] * 10, [quiet] * 10))
    ]
    assert abs(means[0] - means[1]) < 20  # dB, of a hundred between the two


def test_same_settings_same_bytes(extractor: AcousticExtractor) -> None:
    clips = [hum(1), rain(1), hum(2)]
    first, second = (extractor.fit(clips, silent) for _ in range(2))
    assert {k: v.tobytes() for k, v in first.arrays.items()} == {k: v.tobytes() for k, v in second.arrays.items()}
    assert first.info == second.info


def test_default_vector_has_200_numbers() -> None:
    assert AcousticExtractor(AcousticSettings()).dim == 200
