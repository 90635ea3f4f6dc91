"""Term weights against scikit-learn's own vectorizer, hashtags by example, and batches of any kind."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from nmcl.extractors.hashtags import MAX_LENGTH, HashtagSplitter
from nmcl.extractors.ngrams import NgramExtractor, NgramSettings
from nmcl.extractors.tokenizer import tokens
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, State
from nmcl.pipeline.storage.artifacts import Artifact, load_state, save_state
from nmcl.pipeline.storage.store import Store

TEXTS = [
    "morning coffee at the corner shop ☕️ #coffeeshop @Barista_Ann",
    "the shop on the beach #beachlife #BeachLife",
    "sunset at the beach 😀😀 life is good",
    "кофе у моря, доброе утро #доброеутро",
    "Kaffee am Strand #strandkaffee, schöne Grüße",
    "東京の海 #東京",
    "café à la plage #cafeplage https://www.vine.co/v/abc",
    "gute Zeit! #GuteZeit2024 vibes",
]
SMALL = NgramSettings(dim=5)


def clips(texts: list[str | None]) -> list[Clip]:
    return [Clip(text=text) for text in texts]


@pytest.fixture(scope="module")
def extractor() -> NgramExtractor:
    return NgramExtractor(SMALL)


@pytest.fixture(scope="module")
def state(extractor: NgramExtractor) -> State:
    return extractor.fit(clips([*TEXTS]), silent)


def terms_of(extracted: Extracted) -> csr_array:
    assert extracted.terms is not None
    return extracted.terms


def weights_of(state: State, row: csr_array) -> dict[str, float]:
    """Weights of one text by the name of the term; words and characters must not share names here."""
    names = [*state.info["word_terms"], *state.info["character_terms"]]
    return {names[i]: float(value) for i, value in zip(row.indices, row.data, strict=True)}


def test_weights_are_those_of_scikit_learn(extractor: NgramExtractor, state: State) -> None:
    """Its vectorizer, fitted on the same texts, where no hashtag is split."""
    plain = [text.replace("#", "") for text in TEXTS]
    state = extractor.fit(clips([*plain]), silent)
    new = [*plain, "coffee coffee coffee at sea", "unheard"]
    found = terms_of(extractor.extract(clips([*new]), state))
    by_kind = (
        TfidfVectorizer(tokenizer=tokens, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    )
    n_words = len(state.info["word_terms"])
    for vectorizer, own in zip(by_kind, (found[:, :n_words], found[:, n_words:]), strict=True):
        expected = vectorizer.fit(plain).transform(new)
        np.testing.assert_allclose(own.toarray(), expected.toarray(), atol=1e-6)
    assert state.info["word_terms"] == by_kind[0].get_feature_names_out().tolist()
    assert state.info["character_terms"] == by_kind[1].get_feature_names_out().tolist()


def test_the_vector_reduces_the_terms_as_well_as_any_of_its_length(extractor: NgramExtractor, state: State) -> None:
    found = extractor.extract(clips([*TEXTS]), state)
    full = terms_of(found).toarray().astype(np.float64)
    strengths = np.linalg.svd(full, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=0), strengths[:5], rtol=1e-3)


def test_fewer_texts_than_dimensions_leave_zeros() -> None:
    extractor = NgramExtractor(NgramSettings(dim=12))
    state = extractor.fit(clips(["one two", "one two", "three"]), silent)
    vectors = extractor.extract(clips(["one two", "three", "four"]), state).vectors
    assert np.isfinite(vectors).all()
    assert (np.abs(state.arrays["components"]).max(axis=0) > 0).tolist() == [True] * 2 + [False] * 10
    assert extractor.extract(clips(["one"]), extractor.fit(clips(["one"]), silent)).vectors[0, 0] != 0


def test_the_terms_of_most_texts_are_kept_and_ties_are_alphabetical() -> None:
    extractor = NgramExtractor(NgramSettings(dim=2, max_terms=6))
    state = extractor.fit(clips(["b a", "b c", "b"]), silent)
    assert state.info["word_terms"] == ["b"]
    assert state.info["character_terms"] == [" a", " a ", " b", " b ", "b "]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("coffeeshop", ["coffee", "shop"]),
        ("CoffeeShop", ["coffee", "shop"]),
        ("coffee_shop", ["coffee", "shop"]),
        ("COFFEESHOP", ["coffee", "shop"]),
        ("Coffeeshop2024", ["coffee", "shop", "2024"]),
        ("NYCLife", ["nyc", "life"]),
        ("доброеутро", ["доброе", "утро"]),
        ("ДоброеУтро", ["доброе", "утро"]),
        ("strandkaffee", ["strand", "kaffee"]),
        ("ÉtéÀParis", ["été", "à", "paris"]),
        ("cafeplage", ["cafeplage"]),
        ("अच्छीसुबह", ["अच्छी", "सुबह"]),
        ("東京", ["東", "京"]),
        ("unheard", ["unheard"]),
        ("coffeeunheard", ["coffeeunheard"]),
        ("a" * (MAX_LENGTH + 1), ["a" * (MAX_LENGTH + 1)]),
        ("___", []),
    ],
)
def test_hashtags_are_split_into_words(tag: str, expected: list[str]) -> None:
    words = [
        "coffee",
        "shop",
        "coff",
        "eeshop",
        "life",
        "доброе",
        "утро",
        "strand",
        "kaffee",
        "plage",
        "café",
        "अच्छी",
        "सुबह",
        "a",
        "at",
        "the",
    ]
    counts = dict.fromkeys(words, 20) | {"coff": 1, "eeshop": 1}
    assert [*HashtagSplitter(counts).words(tag)] == expected


def test_a_frequent_word_is_not_split() -> None:
    counts = {"sun": 30, "set": 30, "filler": 1000}
    assert HashtagSplitter({**counts, "sunset": 20}).words("sunset") == ("sunset",)
    assert HashtagSplitter(counts).words("sunset") == ("sun", "set")


def test_tags_emoji_and_names_are_terms(extractor: NgramExtractor, state: State) -> None:
    text = "Look #coffeeshop 😀 @Barista_Ann"
    found = weights_of(state, terms_of(extractor.extract(clips([text]), state))[[0]])
    assert {"#coffeeshop", "coffee", "shop", "coffee shop", "😀", "@barista_ann"} <= found.keys()
    assert "coffeeshop" not in found
    assert "shop coffee" not in found


def test_absent_texts_have_neither_vector_nor_terms(extractor: NgramExtractor, state: State) -> None:
    found = extractor.extract(clips([None, "", " \n", "... !?", "qqq", "the beach"]), state)
    assert np.isnan(found.vectors).all(axis=1).tolist() == [True] * 4 + [False] * 2
    assert (np.diff(terms_of(found).indptr) > 0).tolist() == [False] * 5 + [True]
    assert not found.vectors[4].any()


def test_an_empty_state_has_no_terms(extractor: NgramExtractor) -> None:
    found = extractor.extract(clips(["the beach", None]), State())
    assert terms_of(found).shape == (2, 0)
    assert np.isnan(found.vectors).all()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from([*TEXTS, "", "coffee 😀", "#beachcoffee"]) | st.text(max_size=30), max_size=8),
    st.integers(1, 4),
)
def test_batches_change_nothing(extractor: NgramExtractor, state: State, texts: list[str], n: int) -> None:
    whole = extractor.extract(clips([*texts]), state)
    assert terms_of(whole).has_canonical_format
    for i in range(0, len(texts), n):
        batch = extractor.extract(clips([*texts[i : i + n]]), state)
        assert batch.vectors.tobytes() == whole.vectors[i : i + n].tobytes()
        for one, other in zip(terms_of(batch).toarray(), terms_of(whole)[i : i + n].toarray(), strict=True):
            assert one.tobytes() == other.tobytes()


def test_threads_do_not_disturb_each_other(state: State) -> None:
    extractor = NgramExtractor(SMALL)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: extractor.extract(clips([*TEXTS]), state).vectors.tobytes(), range(8)))
    assert len(set(found)) == 1


def test_the_state_is_arrays_and_json(extractor: NgramExtractor, state: State) -> None:
    copy = State({name: array.copy() for name, array in state.arrays.items()}, json.loads(json.dumps(state.info)))
    first, again = (NgramExtractor(SMALL).extract(clips([*TEXTS]), one) for one in (state, copy))
    assert first.vectors.tobytes() == again.vectors.tobytes()
    assert (terms_of(first) != terms_of(again)).nnz == 0


def _without(name: str) -> Callable[[State], State]:
    return lambda state: State({key: array for key, array in state.arrays.items() if key != name}, state.info)


def _array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[State], State]:
    return lambda state: State({**state.arrays, name: change(state.arrays[name].copy())}, state.info)


def _info(name: str, change: Callable[[list[str]], object]) -> Callable[[State], State]:
    return lambda state: State(state.arrays, {**state.info, name: change(state.info[name])})


@pytest.mark.parametrize(
    "damage",
    [
        _without("idf"),
        _without("counts"),
        _without("components"),
        _array("idf", lambda array: array[1:]),
        _array("idf", lambda array: -array),
        _array("idf", lambda array: array.astype(np.float64)),
        _array("components", lambda array: array[:, 1:]),
        _array("components", lambda array: array * np.nan),
        _array("counts", lambda array: array * 0),
        _array("counts", lambda array: array[1:]),
        _info("word_terms", lambda names: names[1:]),
        _info("word_terms", lambda names: [names[1], *names[1:]]),
        _info("word_terms", lambda names: [1, *names[1:]]),
        _info("character_terms", lambda _: None),
        _info("words", lambda names: "".join(names)),
        lambda state: State(state.arrays, {}),
    ],
)
def test_a_damaged_state_is_named(state: State, damage: Callable[[State], State]) -> None:
    with pytest.raises(StoreError, match=r"states/ngrams-\.\.\. of the store is damaged"):
        NgramExtractor(SMALL).extract(clips(["the beach"]), damage(state))


def test_texts_without_a_word(extractor: NgramExtractor, tmp_path: Path) -> None:
    """Nothing can be a word of a hashtag; the stored state is as good as the fitted one."""
    store, artifact = Store.create(tmp_path), Artifact("states/ngrams", {})
    save_state(store, artifact, extractor.fit(clips(["😀", "😀 #sun"]), silent))
    found = NgramExtractor(SMALL).extract(clips(["#sun 😀"]), load_state(store, artifact))
    assert terms_of(found).nnz > 0
