"""WordLlama vectors against the package's own function."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nmcl.extractors import wordllama
from nmcl.extractors.wordllama import WordLlamaExtractor, WordLlamaSettings
from nmcl.pipeline.errors import SettingsError, WeightsError
from nmcl.pipeline.records import Clip, State

TEXTS = ["Sunset at the beach with friends", "#coffeeshop 😀 latte art", "東京の夜", "ski", "a" * 3000]


def test_vectors_are_those_of_the_package() -> None:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    spec = find_spec("wordllama")
    assert spec
    assert spec.submodule_search_locations
    weights, tokenizer = (Path(spec.submodule_search_locations[0]) / name for name in wordllama.FILES)
    (tensor,) = load_file(weights).values()
    theirs = WordLlamaInference(tensor.astype(np.float32), Tokenizer.from_file(str(tokenizer)))
    own = WordLlamaExtractor(WordLlamaSettings()).extract([Clip(text=text) for text in TEXTS], State())
    np.testing.assert_allclose(own, theirs.embed(TEXTS), rtol=1e-5, atol=1e-6)


def test_texts_without_a_token_have_no_vector() -> None:
    clips = [Clip(text=text) for text in ("", "  \n", "word")]
    assert np.isnan(WordLlamaExtractor(WordLlamaSettings()).extract(clips, State())).all(axis=1).tolist() == [1, 1, 0]


def test_an_absent_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordllama, "is_installed", lambda: False)
    with pytest.raises(SettingsError, match=r"needs the package wordllama.*\n.*pip install 'nmcl\[wordllama\]'"):
        WordLlamaExtractor(WordLlamaSettings()).check()


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordllama, "FILES", dict.fromkeys(wordllama.FILES, "0" * 64))
    with pytest.raises(WeightsError, match=r"is not the file of wordllama 0\.4\.0"):
        WordLlamaExtractor(WordLlamaSettings()).extract([Clip(text="word")], State())
