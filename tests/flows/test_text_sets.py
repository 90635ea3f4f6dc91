"""Feature sets of descriptions: fitted on training rows and nothing else, with the vectors of the extractors."""

from pathlib import Path

import numpy as np
import pytest

from nmcl.extractors.ngrams import NgramExtractor, NgramSettings
from nmcl.extractors.textual import TextualExtractor, TextualSettings
from nmcl.extractors.wordllama import WordLlamaExtractor, WordLlamaSettings
from nmcl.flows.text_sets import SEED, TextSet, chosen_sets
from nmcl.model.feature_table import FeatureTable
from nmcl.model.study.folds import fold
from nmcl.pipeline.completion import CompletionSettings
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, State

QUICK = TextualSettings(dim=8, epochs=2, min_words=1)
WORDS = ["sun", "sea", "sand", "snow", "ski", "ice"]
TEXTS = [" ".join(np.random.default_rng(i).choice(WORDS, 4)) + f" only{i}" for i in range(40)]
TRAIN = np.arange(40) % 2 == 0


class Recorder(TextualExtractor):
    """Remembers the descriptions that it is fitted on."""

    def fit(self, clips: list[Clip], progress: Progress) -> State:  # type: ignore[override]
        self.seen = [clip.text for clip in clips]
        return super().fit(clips, progress)


def test_vectors_are_those_of_an_extractor_that_knows_only_the_training_rows() -> None:
    extractor = Recorder(QUICK)
    found = TextSet(TEXTS, extractor)(TRAIN)
    assert sorted(extractor.seen) == sorted(text for text, wanted in zip(TEXTS, TRAIN, strict=True) if wanted)
    alone = TextualExtractor(QUICK)
    state = alone.fit([Clip(text=text) for text in extractor.seen], lambda *_: None)
    np.testing.assert_array_equal(found, alone.extract([Clip(text=text) for text in TEXTS], state))


def test_no_other_description_changes_anything() -> None:
    """Words that only test rows have are unknown, and other test rows give the same vectors of training rows."""
    found = TextSet(TEXTS, TextualExtractor(QUICK))(TRAIN)
    others = [
        text if wanted else f"unheard{i} of{i}" for i, (text, wanted) in enumerate(zip(TEXTS, TRAIN, strict=True))
    ]
    changed = TextSet(others, TextualExtractor(QUICK))(TRAIN)
    np.testing.assert_array_equal(changed[TRAIN], found[TRAIN])
    assert not np.isnan(found).any()
    assert np.isnan(changed[~TRAIN]).all()


def test_every_split_is_fitted_again() -> None:
    """Each row has one word of its own, which is known only where the row is in training."""
    own = [f"only{i}" for i in range(40)]
    sound = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    make = TextSet(own, TextualExtractor(QUICK))
    table = FeatureTable({"sound": sound}, np.arange(40) % 2, ("a", "b"), fitted={"words": make})
    splits = []
    for seed in range(2):
        found = fold(table, seed, CompletionSettings(method="mean"))
        assert list(found.table.modalities) == ["sound", "words"]
        assert (~np.isnan(found.table.modalities["words"][:, 0]) == (found.split == "train")).all()
        assert found.train.observed["words"].all()
        assert not found.test.observed["words"].any()
        splits.append(found.split.tolist())
    assert splits[0] != splits[1]


def test_terms_are_fitted_on_training_rows_too() -> None:
    sound = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    make = TextSet(["", *TEXTS[1:]], NgramExtractor(NgramSettings(dim=4)))
    table = FeatureTable({"sound": sound}, np.arange(40) % 2, ("a", "b"), fitted={"ngrams": make})
    found = fold(table, 0, CompletionSettings(method="mean"))
    alone = NgramExtractor(NgramSettings(dim=4))
    train = found.split == "train"
    rows = [i for i in np.random.default_rng(SEED).permutation(np.flatnonzero(train)) if i]
    state = alone.fit([Clip(text=TEXTS[i]) for i in rows], lambda *_: None)
    expected = alone.extract([Clip(text=text) for text in ["", *TEXTS[1:]]], state)
    assert expected.terms is not None
    np.testing.assert_array_equal(found.table.modalities["ngrams"], expected.vectors)
    np.testing.assert_array_equal(found.train.terms["ngrams"].toarray(), expected.terms.toarray()[train])
    assert list(table.only(["ngrams"]).fitted_on(train).terms) == ["ngrams"]
    assert found.table.only(["sound"]).terms == {}


def test_at_most_so_many_rows_are_fitted_on() -> None:
    extractor = Recorder(TextualSettings(dim=4, epochs=1, min_words=1, fit_videos=5))
    TextSet(["", *TEXTS[1:]], extractor)(TRAIN)
    assert len(set(extractor.seen)) == 5
    assert None not in extractor.seen


def test_wordllama_needs_no_training_rows() -> None:
    texts = ["sea", "", "ski"]
    found = TextSet(texts, WordLlamaExtractor(WordLlamaSettings()))(np.zeros(3, bool))
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False]


def test_sets_are_named_by_settings() -> None:
    default = {"textual": "paragraph_vectors", "words": "wordllama", "ngrams": "ngrams"}
    assert {name: chosen.extractor for name, chosen in chosen_sets({}).items()} == default
    tree = {"features": {"textual": {"dim": 7}, "said": {"extractor": "wordllama"}}}
    found = chosen_sets(tree)
    assert {name: chosen.extractor for name, chosen in found.items()} == {
        "textual": "paragraph_vectors",
        "words": "wordllama",
        "ngrams": "ngrams",
        "said": "wordllama",
    }
    assert found["textual"].options.dim == 7
    none = {name: {"extractor": "none"} for name in ("textual", "words", "ngrams")}
    assert list(chosen_sets({"features": {**none, "w": {"extractor": "wordllama"}}})) == ["w"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"dropout": 0.1}}, "model cannot be set with --texts"),
        ({"features": {"visual": {"key_frames": 4}}}, "features.visual is not made from descriptions, but by resnet50"),
        (
            {"features": {"sound": {"extractor": "logmel"}}},
            "features.sound is not made from descriptions, but by logmel",
        ),
        ({"features": {"words": {"extractor": "oracle"}}}, "features.words.extractor is 'oracle'; expected one of"),
        (
            {"features": {name: {"extractor": "none"} for name in ("textual", "words", "ngrams")}},
            "No feature set of descriptions is left",
        ),
        ({"features": {"textual": {"extra_text": "nowhere.txt"}}}, "nowhere.txt cannot be read"),
    ],
)
def test_other_settings_are_refused(tree: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        chosen_sets(tree)
