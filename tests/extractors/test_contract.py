"""What every extractor promises (pipeline/extractor.py). A new one joins by one line in CASES."""

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from nmcl.extractors.acoustic import AcousticExtractor, AcousticSettings
from nmcl.extractors.autoencoder import AutoencoderSettings
from nmcl.extractors.logmel import LogMelExtractor, LogMelSettings
from nmcl.extractors.sentences import SentenceSettings, sentence_extractor
from nmcl.extractors.tagger import TaggerExtractor, TaggerSettings
from nmcl.extractors.textual import TextualExtractor, TextualSettings
from nmcl.extractors.timm import TimmExtractor, TimmSettings
from nmcl.extractors.visual import VisualExtractor, VisualSettings
from nmcl.extractors.wordllama import WordLlamaExtractor, WordLlamaSettings
from nmcl.pipeline.extractor import Extracted, Extractor, vectors_of
from nmcl.pipeline.needs import Frames, Sound, Text
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import MODALITIES, Clip, State
from tests import tiny
from tests.readme import example_extractor


@dataclass(frozen=True)
class Case:
    """An extractor, small enough to be quick, and clips that have its modality."""

    extractor: Callable[[], Extractor]
    clip: Callable[[int], Clip]
    """Makes a clip from a seed, with the extractor's field and no other."""


def _sound(seed: int) -> Clip:
    n_samples = 3000 * (seed % 4 + 1)
    return Clip(waveform=np.random.default_rng(seed).integers(-9000, 9000, n_samples).astype(np.int16))


def _long_sound(seed: int) -> Clip:
    n_samples = 11_000 * (seed % 5 + 1)
    return Clip(waveform=np.random.default_rng(seed).integers(-9000, 9000, n_samples).astype(np.int16))


def _text(seed: int) -> Clip:
    letters = np.random.default_rng(seed).choice(list("abcdefgh"), 2 + seed % 5)
    return Clip(text=" ".join([*letters, *["z"] * seed]))


def _frames(seed: int, side: int = 224) -> Clip:
    rng = np.random.default_rng(seed)
    times_s = tuple(0.5 * i for i in range(seed % 3 + 1))
    return Clip(rng.integers(0, 256, (len(times_s), side, side, 3), dtype=np.uint8), times_s)


SMALL = AutoencoderSettings(layers=(20, 10), min_steps=10)
CASES = {
    "acoustic": Case(lambda: AcousticExtractor(AcousticSettings(autoencoder=SMALL)), _sound),
    "acoustic sequence": Case(
        lambda: AcousticExtractor(AcousticSettings(autoencoder=SMALL, sequence=True)),
        _sound,
    ),
    "textual": Case(lambda: TextualExtractor(TextualSettings(dim=10, min_words=2000)), _text),
    "logmel": Case(lambda: LogMelExtractor(LogMelSettings(bands=8)), _sound),
    "wordllama": Case(lambda: WordLlamaExtractor(WordLlamaSettings()), _text),
    "visual": Case(lambda: VisualExtractor("efficientnet_lite0", VisualSettings(weights="random")), _frames),
    "visual sequence": Case(
        lambda: VisualExtractor("efficientnet_lite0", VisualSettings(weights="random", sequence=True)), _frames
    ),
    "timm": Case(lambda: TimmExtractor(TimmSettings(*tiny.timm_model())), partial(_frames, side=tiny.TIMM_SIDE)),
    "timm sequence": Case(
        lambda: TimmExtractor(TimmSettings(*tiny.timm_model(), sequence=True)), partial(_frames, side=tiny.TIMM_SIDE)
    ),
    "st": Case(lambda: sentence_extractor(SentenceSettings(tiny.sentence_model(), normalize=True)), _text),
    "st of pictures": Case(
        lambda: sentence_extractor(SentenceSettings(tiny.clip_model(), "visual", sequence=True)),
        partial(_frames, side=tiny.CLIP_SIDE),
    ),
    "tagger": Case(lambda: TaggerExtractor(TaggerSettings(*tiny.tagger(), sequence=True)), _long_sound),
    "example of the README": Case(example_extractor, _frames),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def clips(case: Case) -> Sequence[Clip]:
    return [case.clip(seed) for seed in range(9)]


def same(one: State, other: State) -> bool:
    arrays = ({name: (a.dtype, a.shape, a.tobytes()) for name, a in state.arrays.items()} for state in (one, other))
    return next(arrays) == next(arrays) and one.info == other.info


def test_says_what_it_is(case: Case) -> None:
    extractor = case.extractor()
    assert extractor.modality in MODALITIES
    assert extractor.dim > 0
    assert extractor.fit_videos >= 0
    need = extractor.need
    field = {Frames: "frames", Sound: "waveform", Text: "text"}[type(need)]
    assert [name for name in ("frames", "waveform", "text") if getattr(case.clip(0), name) is not None] == [field]
    again = pickle.loads(pickle.dumps(need))
    assert (again, hash(again)) == (need, hash(need))


def test_address_is_json_and_stable(case: Case) -> None:
    address = case.extractor().address()
    assert json.loads(json.dumps(address)) == address == case.extractor().address()
    assert "code_version" in address


def test_vectors_have_shape_and_type(case: Case, clips: Sequence[Clip]) -> None:
    extractor = case.extractor()
    vectors = vectors_of(extractor.extract(clips, extractor.fit(clips, silent)))
    assert vectors.shape == (len(clips), extractor.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == len(clips)


def test_state_is_arrays_and_json(case: Case, clips: Sequence[Clip]) -> None:
    state = case.extractor().fit(clips, silent)
    assert all(isinstance(array, np.ndarray) and array.dtype != object for array in state.arrays.values())
    assert json.loads(json.dumps(state.info)) == state.info


def test_fit_is_deterministic(case: Case, clips: Sequence[Clip]) -> None:
    assert same(case.extractor().fit(clips, silent), case.extractor().fit(clips, silent))


def test_fit_reads_its_clips_once(case: Case, clips: Sequence[Clip]) -> None:
    assert same(case.extractor().fit(iter(clips), silent), case.extractor().fit(clips, silent))


def test_fit_skips_absent_clips_and_tells_progress(case: Case, clips: Sequence[Clip]) -> None:
    reports: list[tuple[int, int]] = []
    extractor = case.extractor()
    mixed = [clip for pair in zip(clips, [Clip()] * len(clips), strict=True) for clip in pair]
    state = extractor.fit(mixed, lambda stage, done, total, note="": reports.append((done, total)))
    assert same(state, extractor.fit(clips, silent))
    assert all(0 <= done <= total for done, total in reports)


def test_extract_changes_neither_state_nor_clips(case: Case, clips: Sequence[Clip]) -> None:
    extractor = case.extractor()
    state = extractor.fit(clips, silent)
    frozen = State({name: array.copy() for name, array in state.arrays.items()}, dict(state.info))
    for array in state.arrays.values():
        array.setflags(write=False)
    first = vectors_of(extractor.extract(clips, state))
    assert vectors_of(extractor.extract(clips, state)).tobytes() == first.tobytes()
    assert same(state, frozen)


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_a_vector_does_not_depend_on_its_batch(case: Case, clips: Sequence[Clip], cut: int) -> None:
    extractor = case.extractor()
    state = extractor.fit(clips, silent)
    mixed = [*clips[:3], Clip(), *clips[3:]]
    parts = [vectors_of(extractor.extract(mixed[i : i + cut], state)) for i in range(0, len(mixed), cut)]
    assert np.concatenate(parts).tobytes() == vectors_of(extractor.extract(mixed, state)).tobytes()


def test_absent_is_a_row_of_nan(case: Case, clips: Sequence[Clip]) -> None:
    extractor = case.extractor()
    vectors = vectors_of(extractor.extract([Clip(), clips[0]], extractor.fit(clips, silent)))
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False]


def test_no_clips_no_rows(case: Case, clips: Sequence[Clip]) -> None:
    extractor = case.extractor()
    assert vectors_of(extractor.extract([], extractor.fit(clips, silent))).shape == (0, extractor.dim)


def test_nothing_to_learn_from_gives_an_empty_state(case: Case) -> None:
    extractor = case.extractor()
    for nothing in ([], [Clip()]):
        assert extractor.fit(nothing, silent) == State()
        assert np.isnan(vectors_of(extractor.extract([Clip()], State()))).all()


def test_a_vector_is_the_mean_of_its_sequence(case: Case, clips: Sequence[Clip]) -> None:
    extractor = case.extractor()
    state = extractor.fit(clips, silent)
    found = extractor.extract([*clips[:4], Clip()], state)
    if not isinstance(found, Extracted):
        pytest.skip("stores no sequences")
    assert found.sequences[4] is None
    for i in range(4):
        sequence = found.sequences[i]
        assert sequence is not None
        assert sequence.shape == (len(found.times_s[i]), extractor.dim)
        np.testing.assert_allclose(sequence.astype(np.float64).mean(axis=0), found.vectors[i], rtol=1e-4, atol=1e-6)
        assert found.times_s[i][0] == 0
        assert (np.diff(found.times_s[i]) > 0).all()
    (alone,) = extractor.extract(clips[1:2], state).sequences  # type: ignore[union-attr]
    assert alone.tobytes() == found.sequences[1].tobytes()  # type: ignore[union-attr]
