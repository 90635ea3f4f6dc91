"""Log-mel statistics against librosa's own spectrogram."""

import librosa
import numpy as np

from nmcl.extractors.logmel import LogMelExtractor, LogMelSettings
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.records import Clip, State
from tests.media import tone


def test_levels_are_those_of_librosa() -> None:
    sound = np.random.default_rng(0).integers(-20_000, 20_000, 30_000).astype(np.int16)
    (own,) = LogMelExtractor(LogMelSettings()).extract([Clip(waveform=sound)], State())
    padded = np.pad(sound / 32768.0, 512)
    power = librosa.feature.melspectrogram(
        y=padded, sr=22_050, n_fft=1024, hop_length=512, window="hann", center=False, n_mels=64
    )
    levels = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(own, [*levels.mean(axis=1), *levels.std(axis=1)], rtol=1e-3, atol=1e-3)


def test_a_tone_is_in_its_band() -> None:
    settings = LogMelSettings(bands=40)
    (vector,) = LogMelExtractor(settings).extract([Clip(waveform=tone(2000, 1))], State())
    centres = librosa.mel_frequencies(42, fmin=0, fmax=11_025)[1:-1]
    assert abs(centres[vector[:40].argmax()] - 2000) < 150


def test_the_sequence_has_the_levels_of_each_frame() -> None:
    clips = [Clip(waveform=tone(2000, 1)), Clip()]
    pooled = LogMelExtractor(LogMelSettings(bands=40)).extract(clips, State())
    found = LogMelExtractor(LogMelSettings(bands=40, sequence=True)).extract(clips, State())
    assert isinstance(found, Extracted)
    assert found.vectors.tobytes() == np.asarray(pooled).tobytes()
    sequence, absent = found.sequences
    assert absent is None
    assert sequence is not None
    assert sequence.shape == (1 + 22_050 // 512, 80)
    np.testing.assert_allclose(found.times_s[0], np.arange(44) * 512 / 22_050)
    np.testing.assert_allclose(sequence[:, :40].std(axis=0), found.vectors[0, 40:], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sequence.mean(axis=0), found.vectors[0], rtol=1e-4, atol=1e-4)
