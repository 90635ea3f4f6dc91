"""Tokens by example; paragraph vectors on corpora whose topics are known."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nmcl.extractors.textual import LARGEST_WEIGHT, TextualExtractor, TextualSettings
from nmcl.extractors.tokenizer import tokens
from nmcl.pipeline.errors import SettingsError, StoreError
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, State

SMALL = TextualSettings(dim=30, min_words=60_000)

SEA = ["sea", "wave", "sand", "shell", "surf", "boat", "gull", "tide"]
CITY = ["bus", "tram", "crowd", "shop", "tower", "traffic", "neon", "office"]
BOTH = ["a", "the", "with", "my"]


def texts(topic: list[str], n_texts: int, seed: int) -> list[Clip]:
    """Each of four words of the topic and three that belong to none."""
    rng = np.random.default_rng(seed)
    return [Clip(text=" ".join([*rng.choice(topic, 4), *rng.choice(BOTH, 3)])) for _ in range(n_texts)]


@pytest.fixture(scope="module")
def extractor() -> TextualExtractor:
    return TextualExtractor(SMALL)


@pytest.fixture(scope="module")
def state(extractor: TextualExtractor) -> State:
    return extractor.fit([*texts(SEA, 60, 1), *texts(CITY, 60, 2)], silent)


def test_threads_do_not_disturb_each_other(extractor: TextualExtractor, state: State) -> None:
    """Two parts may be done at once in one process."""
    parts = [texts(SEA, 60, seed) for seed in range(8)]
    expected = [extractor.extract(part, state) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: extractor.extract(part, state), parts))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \n\t ", []),
        ("... ___ -- !?", []),
        ("Two dogs, running.", ["two", "dogs", "running"]),
        ("snow-covered it's don’t 'quoted'", ["snow", "covered", "it's", "don't", "quoted"]),
        ("#Beach", ["#beach", "beach"]),
        ("#snow_day#fun", ["#snow_day", "snow", "day", "#fun", "fun"]),
        ("＃wide", ["#wide", "wide"]),
        ("# alone", ["alone"]),
        ("hi @Some_One!", ["hi", "@some_one"]),
        ("see https://www.vine.co/v/abc?x=1 now", ["see", "vine.co", "now"]),
        ("www.example.org. (http://a.example/b)", ["example.org", "a.example"]),
        ("Café ÉCOLE", ["café", "école"]),
        ("cafe\u0301", ["café"]),
        ("море Straße", ["море", "straße"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("東京 タワー", ["東", "京", "タ", "ワ", "ー"]),
        ("#東京", ["#東京", "東", "京"]),
        ("ที่นี่ ปี๒๕๖๗", ["ที่", "นี่", "ปี", "๒๕๖๗"]),
        ("น้ำ go", ["น้ํ", "า", "go"]),
        ("#ไทย", ["#ไทย", "ไ", "ท", "ย"]),
        ("ສະບາຍ", ["ສ", "ະ", "ບ", "າ", "ຍ"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("မြန်မာ ဗုဒ္ဓ", ["မြ", "န်", "မာ", "ဗု", "ဒ္ဓ"]),
        ("𝓱𝓮𝓵𝓵𝓸 ﬁre", ["hello", "fire"]),
        ("3 dogs at 10pm", ["3", "dogs", "at", "10pm"]),
        ("sun☀️sea🌊🌊", ["sun", "☀", "sea", "🌊", "🌊"]),
        ("❤ ❤️", ["❤", "❤"]),
        ("👍🏽👍", ["👍🏽", "👍"]),
        ("👨‍👩‍👧‍👦👩🏾‍🚀", ["👨‍👩‍👧‍👦", "👩🏾‍🚀"]),
        ("🏳️‍🌈", ["🏳‍🌈"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("🏴󠁧󠁢󠁥󠁮󠁧󠁿", ["🏴󠁧󠁢󠁥󠁮󠁧󠁿"]),
        ("1️⃣ #️⃣", ["1\u20e3", "#\u20e3"]),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_tells_two_topics(extractor: TextualExtractor, state: State) -> None:
    known = extractor.extract([*texts(SEA, 60, 1), *texts(CITY, 60, 2)], state)
    centres = known[:60].mean(axis=0), known[60:].mean(axis=0)
    for topic, own, other in ((SEA, 0, 1), (CITY, 1, 0)):
        for vector in extractor.extract(texts(topic, 20, 3), state):
            assert np.linalg.norm(vector - centres[own]) < np.linalg.norm(vector - centres[other])


def test_texts_learnt_from_are_inferred_like_others(extractor: TextualExtractor, state: State) -> None:
    """Were trained vectors kept, texts that were seen would be longer than texts of the same words that were not."""
    seen = np.linalg.norm(extractor.extract(texts(SEA, 60, 1), state), axis=1).mean()
    unseen = np.linalg.norm(extractor.extract(texts(SEA, 60, 4), state), axis=1).mean()
    assert seen == pytest.approx(unseen, rel=0.1)


def test_absent_texts_are_nan(extractor: TextualExtractor, state: State) -> None:
    descriptions = [None, "", "...", "unheard words only", "unheard sea", "SEA"]
    vectors = extractor.extract([Clip(text=text) for text in descriptions], state)
    assert np.isnan(vectors).all(axis=1).tolist() == [True, True, True, True, False, False]
    np.testing.assert_array_equal(vectors[4], vectors[5])  # unknown words change nothing


def test_vectors_do_not_depend_on_the_batch(extractor: TextualExtractor, state: State) -> None:
    clips = [*texts(SEA, 5, 5), Clip(), *texts(CITY, 5, 6)]
    alone = np.concatenate([extractor.extract([clip], state) for clip in clips])
    assert extractor.extract(clips, state).tobytes() == alone.tobytes()


def test_a_rebuilt_model_infers_the_same_bits(extractor: TextualExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the very model that was trained, before it became arrays."""
    trained = []
    train = extractor._train
    monkeypatch.setattr(extractor, "_train", lambda *arguments: trained.append(train(*arguments)) or trained[0])
    clips = [*texts(SEA, 20, 1), *texts(CITY, 20, 2), Clip(text="once twice twice")]
    state = extractor.fit(clips, silent)
    direct = [extractor._infer(trained[0], tokens(clip.text or "")) for clip in clips]
    assert np.stack(direct).tobytes() == extractor.extract(clips, state).tobytes()


CHILD = """
import json, sys
from pathlib import Path
from safetensors.numpy import load_file
from nmcl.extractors.textual import TextualExtractor, TextualSettings
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, State
folder = Path(sys.argv[1])
case = json.loads((folder / "case.json").read_text())
extractor = TextualExtractor(TextualSettings(**case["settings"]))
clips = [Clip(text=text) for text in case["texts"]]
kept = State(load_file(folder / "state.safetensors"), case["info"])
again = extractor.fit(clips, silent)
assert again.info == kept.info
assert all(again.arrays[name].tobytes() == kept.arrays[name].tobytes() for name in kept.arrays)
(folder / "vectors").write_bytes(extractor.extract(clips, kept).tobytes())
"""


def test_another_process_with_another_hash_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = replace(SMALL, min_words=5000)
    extractor, clips = TextualExtractor(settings), [*texts(SEA, 20, 1), *texts(CITY, 20, 2)]
    state = extractor.fit(clips, silent)
    save_file(state.arrays, tmp_path / "state.safetensors")
    case = {"settings": asdict(settings), "info": state.info, "texts": [clip.text for clip in clips]}
    (tmp_path / "case.json").write_text(json.dumps(case))
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=True, env=environment, cwd=root, timeout=120)
    assert (tmp_path / "vectors").read_bytes() == extractor.extract(clips, state).tobytes()


def test_no_text_gives_an_empty_state(extractor: TextualExtractor) -> None:
    for clips in ([], [Clip(), Clip(text=""), Clip(text="?!")]):
        state = extractor.fit(clips, silent)
        assert state == State()
        assert np.isnan(extractor.extract([Clip(text="sea")], state)).all()


def test_four_texts_without_a_word_in_common() -> None:
    extractor = TextualExtractor(TextualSettings())
    clips = [Clip(text=text) for text in ("alpha beta gamma", "delta epsilon", "zeta eta theta", "iota")]
    vectors = extractor.extract(clips, extractor.fit(clips, silent))
    lengths = np.linalg.norm(vectors, axis=1)
    assert (lengths > 0.5).all()
    alike = (vectors @ vectors.T) / np.outer(lengths, lengths)
    assert alike[~np.eye(4, dtype=bool)].max() < 0.7


def test_only_the_most_frequent_words_are_known() -> None:
    extractor = TextualExtractor(replace(SMALL, max_words=3, min_words=1))
    state = extractor.fit([Clip(text="b a c b a d"), Clip(text="b e e")], silent)
    assert sorted(state.info["words"]) == ["a", "b", "e"]
    assert dict(zip(state.info["words"], state.arrays["counts"].tolist(), strict=True)) == {"b": 3, "a": 2, "e": 2}
    vectors = extractor.extract([Clip(text="c d"), Clip(text="c b")], state)
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False]


def test_weights_that_overflow_are_refused() -> None:
    """Not left to gensim: with NaN as a dot product it reads outside of a table, and the process may die."""
    extractor = TextualExtractor(replace(SMALL, min_words=1))
    state = extractor.fit([Clip(text="b a c b a d"), Clip(text="b e e")], silent)
    assert np.abs(state.arrays["output_weights"]).max() < LARGEST_WEIGHT / 1e4
    state.arrays["output_weights"][0, ::2] *= np.float32(1e38)
    with pytest.raises(StoreError, match="output_weights has values beyond 1,000,000"):
        extractor.extract([Clip(text="b a")], state)


def test_texts_may_lose_all_their_words_to_the_bound() -> None:
    extractor = TextualExtractor(replace(SMALL, max_words=1, min_words=1))
    state = extractor.fit([Clip(text="b b"), Clip(text="a")], silent)
    assert state.info["words"] == ["b"]
    assert np.isfinite(extractor.extract([Clip(text="b")], state)).all()


def test_extra_text_teaches_words(tmp_path: Path) -> None:
    path = tmp_path / "more.txt"
    path.write_text("\n".join(clip.text or "" for clip in texts(SEA, 30, 1)) + "\n\n", encoding="utf-8")
    extractor = TextualExtractor(replace(SMALL, extra_text=str(path)))
    state = extractor.fit(texts(CITY, 10, 2), silent)
    assert state.info["n_texts"] == 40
    assert np.isfinite(extractor.extract([Clip(text="gull tide")], state)).all()


def test_of_extra_text_the_content_is_the_address(tmp_path: Path) -> None:
    addresses = []
    for name, content in (("one", "sea"), ("two", "sea"), ("three", "city")):
        (tmp_path / name).write_text(content)
        addresses.append(TextualExtractor(replace(SMALL, extra_text=str(tmp_path / name))).address())
    assert addresses[0] == addresses[1] != addresses[2]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_unreadable_extra_text_is_the_users_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "more.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"textual\.extra_text"):
        TextualExtractor(replace(SMALL, extra_text=str(path))).fit([], silent)
