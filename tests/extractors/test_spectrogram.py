"""The spectrogram against SciPy's own transform and against physics."""

import numpy as np
import pytest
from scipy.signal import stft

from nmcl.extractors.spectrogram import HOP, N_BINS, N_FFT, POWER_FLOOR, SAMPLE_RATE_HZ, log_spectrogram

SILENCE_DB = 10 * np.log10(POWER_FLOOR)


def tone(frequency_hz: float, amplitude: float = 0.5, duration_s: float = 1.0) -> np.ndarray:
    times_s = np.arange(int(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.round(amplitude * 32767 * np.sin(2 * np.pi * frequency_hz * times_s)).astype(np.int16)


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8000, 8000, n_samples).astype(np.int16)


@pytest.mark.parametrize("n_samples", [N_FFT * 3, 22_050, 40_001])
def test_equals_scipys_transform(n_samples: int) -> None:
    waveform = noise(n_samples)
    _, _, spectrum = stft(
        waveform / 32768, nperseg=N_FFT, noverlap=N_FFT - HOP, window="hann", boundary="zeros", padded=True
    )
    expected = 10 * np.log10(np.abs(spectrum.T * (N_FFT / 2)) ** 2)  # SciPy divides by the sum of the window
    ours = log_spectrogram(waveform)
    np.testing.assert_allclose(ours, expected[: len(ours)], atol=0.01)


def test_energy_is_kept() -> None:
    """Parseval: Hann windows half a window apart, squared, sum to 3/4 on average, so the energy is the frames' sum."""
    waveform = noise(SAMPLE_RATE_HZ * 3)
    power = 10.0 ** (log_spectrogram(waveform).astype(np.float64) / 10)
    two_sided = 2 * power.sum() - power[:, [0, -1]].sum()
    energy = np.sum((waveform / 32768) ** 2)
    assert two_sided / N_FFT / 0.75 == pytest.approx(energy, rel=0.01)


@pytest.mark.parametrize(("frequency_hz", "bins"), [(1000, {46, 47}), (440, {20, 21}), (8000, {371, 372})])
def test_a_tone_peaks_in_its_bin(frequency_hz: float, bins: set[int]) -> None:
    inner = log_spectrogram(tone(frequency_hz))[2:-2]
    assert set(inner.argmax(axis=1)) <= bins


def test_halving_the_amplitude_costs_six_decibels() -> None:
    loud, soft = log_spectrogram(tone(1000, 0.5)), log_spectrogram(tone(1000, 0.25))
    assert float(loud.max() - soft.max()) == pytest.approx(20 * np.log10(2), abs=0.01)


@pytest.mark.parametrize("n_samples", [1, 2, HOP - 1, HOP, N_FFT - 1, N_FFT, N_FFT + 1, 132_300])
def test_number_of_frames(n_samples: int) -> None:
    found = log_spectrogram(noise(n_samples))
    assert found.shape == (1 + n_samples // HOP, N_BINS)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_six_seconds_give_259_frames() -> None:
    assert len(log_spectrogram(noise(6 * SAMPLE_RATE_HZ))) == 259


def test_silence_lies_on_the_floor() -> None:
    np.testing.assert_allclose(log_spectrogram(np.zeros(5000, np.int16)), SILENCE_DB, atol=1e-4)


def test_one_bit_stands_out_of_silence() -> None:
    waveform = np.zeros(5000, np.int16)
    waveform[2500] = 1
    assert log_spectrogram(waveform).max() > SILENCE_DB + 5


@pytest.mark.parametrize("value", [-32768, 32767])
def test_clipped_sound_is_finite_and_below_full_scale(value: int) -> None:
    found = log_spectrogram(np.full(22_050, value, np.int16))
    assert np.isfinite(found).all()
    assert found.max() == pytest.approx(20 * np.log10(N_FFT / 2), abs=0.1)


def test_same_bytes_each_time() -> None:
    assert log_spectrogram(noise(30_000)).tobytes() == log_spectrogram(noise(30_000)).tobytes()


@pytest.mark.parametrize(
    "waveform", [np.zeros(0, np.int16), np.zeros(10, np.float32), np.zeros((10, 2), np.int16)], ids=str
)
def test_other_waveforms_are_refused(waveform: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected int16"):
        log_spectrogram(waveform)
