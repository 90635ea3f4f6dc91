"""Log-power spectrogram of a sound. The only module that imports librosa.

The paper (section 4.2.2) gives a rate of 22,050 Hz, a window of 46 ms and 50 % overlap; a Hann window and decibels of
power are our choice. n_fft is passed explicitly: librosa's default is twice as long.
"""

import numpy as np

from nmcl.pipeline.needs import SAMPLE_RATE_HZ

N_FFT = 1024  # 46.44 ms
HOP = N_FFT // 2  # 50 % overlap
N_BINS = N_FFT // 2 + 1  # 513, from 0 to 11,025 Hz, 21.5 Hz apart

POWER_FLOOR = 1e-10
"""Power below this is raised to it, so that the logarithm of digital silence is -100 dB. One least significant bit of
16-bit sound is about -75 dB, so nothing that was recorded is lost."""


def log_spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return the log-power spectrogram of a sound: 10 log10 |STFT|^2, in dB, with the waveform's full scale at 1.

    Args:
        waveform: See `power_spectrogram`.

    Returns:
        Shape (n_frames, N_BINS), float32, finite, from -100 (silence) to about 54 (the constant sound of full scale).
    """
    decibel = 10.0 * np.log10(np.maximum(power_spectrogram(waveform), np.float32(POWER_FLOOR)))
    return np.ascontiguousarray(decibel, dtype=np.float32)


def power_spectrogram(waveform: np.ndarray) -> np.ndarray:
    """Return the power spectrogram of a sound, |STFT|^2, with the waveform's full scale at 1.

    Frame t is centred on sample t * HOP, with silence around the sound; so there are 1 + n_samples // HOP frames
    however short it is.

    Args:
        waveform: Shape (n_samples,), int16, mono, 22,050 Hz; n_samples >= 1.

    Returns:
        Shape (n_frames, N_BINS), float32, >= 0.

    Raises:
        ValueError: If the waveform is not int16, not one-dimensional or empty.
    """
    import librosa

    if waveform.ndim != 1 or waveform.dtype != np.int16 or not len(waveform):
        raise ValueError(
            f"found a waveform of shape {waveform.shape} and type {waveform.dtype}, "
            "expected int16 of shape (n_samples,) with n_samples >= 1; decode the sound as 16-bit mono"
        )
    samples = np.pad(waveform.astype(np.float32) / np.float32(32768.0), N_FFT // 2)
    # Centred by our own padding, because librosa warns about sounds shorter than its window.
    stft = librosa.stft(samples, n_fft=N_FFT, hop_length=HOP, window="hann", center=False)
    power: np.ndarray = np.square(stft.real) + np.square(stft.imag)
    return power.T


def mel_bands(n: int) -> np.ndarray:
    """Return the weights of n mel bands, shape (n, N_BINS), float32: Slaney's triangles, each of unit area."""
    import librosa

    bands: np.ndarray = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT, n_mels=n, dtype=np.float32)
    return bands


def frame_times_s(n_frames: int) -> tuple[float, ...]:
    """Return the time of the centre of each frame in seconds from the beginning of the sound."""
    return tuple(t * HOP / SAMPLE_RATE_HZ for t in range(n_frames))
