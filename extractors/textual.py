"""Textual features: paragraph vectors of descriptions (paper, section 4.2.3). The only module that imports gensim.

Le and Mikolov, "Distributed Representations of Sentences and Documents", ICML 2014: a text's vector is the one that
best predicts its words. Of their two models the bag of words (PV-DBOW) with negative sampling separated venues better
here than the distributed memory, hierarchical softmax, or word vectors trained alongside. Vectors are inferred with
frozen output weights for all texts, training texts included: vectors kept from training would differ systematically.
"""

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Interval

from nmcl.extractors.tokenizer import tokens
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.needs import DESCRIPTION, Text, TextSource
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State
from nmcl.pipeline.storage.shapes import require
from nmcl.pipeline.storage.state_checks import checking_state, require_array

if TYPE_CHECKING:
    from gensim.models.doc2vec import Doc2Vec

CODE_VERSION = 2
"""Version of the code, part of the address; raise it when the same settings give different vectors."""

MOST_WORDS = 1 << 40
"""Highest plausible count of one word in a stored state."""
LARGEST_WEIGHT = 1e6
"""Bound of the weights in a stored state; trained ones are below 100. gensim looks up the sigmoid of a dot product in a
table without a check: if it is NaN, after an overflow, the process dies."""
MIN_LEARNING_RATE = 1e-4
"""Final learning rate, gensim's default."""


@dataclass(frozen=True)
class TextualSettings:
    """Frozen settings of paragraph vector training and inference."""

    dim: Annotated[int, Ge(1), Reference(100)] = 100
    """Length of the vector: the paper's."""
    fit_videos: Annotated[int, Ge(1), Reference(200_000)] = 200_000
    """Maximum number of training videos: some 200 MB of words."""
    extra_text: Annotated[str, Unhashed()] = ""
    """UTF-8 file of additional training texts, one per line; empty for none."""
    max_words: Annotated[int, Ge(1), Reference(30_000)] = 30_000
    """Vocabulary size: the most frequent words are kept. Used instead of a minimum count, which would leave nothing of
    a small crawl; a larger vocabulary costs time in every part, where the model is rebuilt."""
    negative: Annotated[int, Interval(ge=1, le=50), Reference(5)] = 5
    """Negative samples per word; gensim's default, and 10 were no better."""
    subsampling: Annotated[float, Interval(ge=0, le=1), Reference(1e-3)] = 1e-3
    """Words more frequent than this share are skipped at random; gensim's default, the best of 3e-4 to 1e-2."""
    epochs: Annotated[int, Ge(1), Reference(40)] = 40
    """Training epochs over the texts."""
    min_words: Annotated[int, Ge(1), Reference(500_000)] = 500_000
    """A small corpus is repeated within each epoch until this many words have been read in total, which takes a second
    or two. With a few hundred texts, 20 plain epochs trained nothing."""
    inference_epochs: Annotated[int, Ge(1), Reference(50)] = 50
    """Passes over a text to infer its vector; more, or averaging several inferences, did not help."""
    learning_rate: Annotated[float, Interval(gt=0, le=1), Reference(0.025)] = 0.025
    """Initial learning rate; gensim's default."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of initialisation and of the order of the texts."""
    text: Annotated[TextSource, Unhashed()] = DESCRIPTION
    """Source of the texts: `description`, `title`, `tags`, `subtitles` or `ocr`. The address of features has the recipe
    of texts from other sources."""


class TextualExtractor:
    """Extractor whose vector is the paragraph vector of a text about a video."""

    modality: Modality = "textual"
    libraries = ("gensim",)

    def __init__(self, settings: TextualSettings) -> None:
        self.settings = settings
        self.need = Text(settings.text)
        self.dim = settings.dim
        self.fit_videos = settings.fit_videos
        self._last: tuple[State, Doc2Vec] | None = None

    def address(self) -> dict[str, object]:
        """Return what decides the vectors; `extra_text` counts by its content, not its path."""
        extra = {"extra_text": self.extra_digest} if self.settings.extra_text else {}
        return {"settings": hashed(self.settings), **extra, "code_version": CODE_VERSION}

    @property
    def extra_digest(self) -> str:
        """SHA-256 of the extra text."""
        return hashlib.sha256(self._extra().encode()).hexdigest()

    def check(self) -> None:
        """Raise SettingsError if the file of extra text cannot be read."""
        self._extra()

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Train word weights on at most `fit_videos` descriptions and the extra text.

        Raises:
            SettingsError: If the file of extra text cannot be read.
        """
        descriptions = (clip.text or "" for clip in islice(clips, self.fit_videos))
        texts = [words for text in [*descriptions, *self._extra().splitlines()] if (words := tokens(text))]
        if not texts:
            return State()
        model = self._train(_most_frequent(texts, self.settings.max_words), progress)
        words = list(model.wv.index_to_key)
        return State(
            arrays={
                "counts": np.array([model.wv.get_vecattr(word, "count") for word in words], dtype=np.int64),
                "output_weights": np.array(model.syn1neg, dtype=np.float32),
            },
            info={"words": words, "n_texts": len(texts)},
        )

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        """Return vectors (len(clips), dim), float32; NaN if the text is absent or has no known word."""
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        if not state.arrays:
            return vectors
        model = copy(self._rebuilt(state))  # shares the weights, but has random numbers of its own per thread
        for vector, clip in zip(vectors, clips, strict=True):
            if words := [word for word in tokens(clip.text or "") if word in model.wv.key_to_index]:
                vector[:] = self._infer(model, words)
        return vectors

    def _rebuilt(self, state: State) -> "Doc2Vec":
        """Return the model of a state, cached for the next batch: a large vocabulary takes seconds to build."""
        if self._last is None or self._last[0] is not state:
            counts = self._checked(state).tolist()
            model = self._untrained(n_words=sum(counts))
            model.build_vocab_from_freq(dict(zip(state.info["words"], counts, strict=True)))
            model.syn1neg = np.array(state.arrays["output_weights"])
            self._last = (state, model)
        return self._last[1]

    def _checked(self, state: State) -> np.ndarray:
        """Return the word counts of a state; raise StoreError if it is not one of this extractor."""
        with checking_state("textual"):
            words = _words_of(state)
            weights = require_array(state, "output_weights", (len(words), self.dim))
            if np.abs(weights).max() > LARGEST_WEIGHT:
                raise ValueError(f"output_weights has values beyond {LARGEST_WEIGHT:,.0f}")
            counts = require_array(state, "counts", (len(words),), np.int64)
            if counts.min() < 1 or counts.max() > MOST_WORDS:
                raise ValueError(f"counts has values outside of 1..{MOST_WORDS:,}")
        return counts

    def _extra(self) -> str:
        path = self.settings.extra_text
        if not path:
            return ""
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"features.textual.extra_text: {path} cannot be read as UTF-8 text ({error}); give a file with one "
                "text per line"
            ) from error

    def _untrained(self, n_words: int) -> "Doc2Vec":
        from gensim.models.doc2vec import Doc2Vec

        settings = self.settings
        return Doc2Vec(
            dm=0,
            vector_size=settings.dim,
            negative=settings.negative,
            # In a text of a few hundred words each one is "frequent": words seen only once are never skipped.
            sample=max(settings.subsampling, 1 / n_words) if settings.subsampling else 0,
            epochs=settings.epochs,
            alpha=settings.learning_rate,
            min_alpha=MIN_LEARNING_RATE,
            min_count=1,
            sorted_vocab=0,  # sorting orders words of equal count differently each time, so no model could be rebuilt
            workers=1,  # more would race for the weights
            seed=settings.seed,
            hashfxn=_stable_hash,
        )

    def _train(self, texts: list[list[str]], progress: Progress) -> "Doc2Vec":
        from gensim.models.callbacks import CallbackAny2Vec
        from gensim.models.doc2vec import TaggedDocument

        n_epochs = self.settings.epochs

        class ReportEpochs(CallbackAny2Vec):  # type: ignore[misc]
            done = 0

            def on_epoch_end(self, model: Any) -> None:
                self.done += 1
                progress("fit textual", self.done, n_epochs)

        n_words = sum(map(len, texts))
        model = self._untrained(n_words)
        tagged = [TaggedDocument(words, [i]) for i, words in enumerate(texts)]
        model.build_vocab(tagged)
        tagged *= -(-self.settings.min_words // (n_words * n_epochs))
        model.train(tagged, total_examples=len(tagged), epochs=n_epochs, callbacks=[ReportEpochs()])
        return model

    def _infer(self, model: "Doc2Vec", words: list[str]) -> np.ndarray:
        """Return the vector of a text, shape (dim,), float32.

        Replaces `Doc2Vec.infer_vector`, whose start depends on Python's salted hash. This one starts at zero, so words
        without information give a zero vector.
        """
        from gensim.models.doc2vec import train_document_dbow

        # Compiled gensim calls `randint` on this, which only the legacy generator has.
        model.random = np.random.RandomState(self.settings.seed)
        vector = np.zeros((1, self.dim), dtype=np.float32)
        scratch = np.zeros(self.dim, dtype=np.float32)
        locks = np.ones(1, dtype=np.float32)
        for rate in np.linspace(self.settings.learning_rate, MIN_LEARNING_RATE, self.settings.inference_epochs):
            train_document_dbow(
                model, words, [0], rate, scratch,
                learn_words=False, learn_hidden=False, doctag_vectors=vector, doctags_lockf=locks,
            )  # fmt: skip
        return vector.reshape(self.dim)


def unknown_words(texts: Iterable[str], state: State) -> np.ndarray:
    """Return the number of words unknown to a state, and of all words, in each text: shape (N, 2), int64."""
    with checking_state("textual"):
        known = set(_words_of(state) if state.arrays else ())
    found = [tokens(text) for text in texts]
    counts = [(sum(word not in known for word in words), len(words)) for words in found]
    return np.array(counts, dtype=np.int64).reshape(-1, 2)


def _words_of(state: State) -> list[str]:
    words: list[str] = state.info["words"]
    require(list[str], words)
    if len(set(words)) != len(words) or not words:
        raise ValueError("words are repeated or absent")
    return words


def _most_frequent(texts: list[list[str]], n_words: int) -> list[list[str]]:
    """Return the texts reduced to their `n_words` most frequent words; ties are broken alphabetically."""
    counts = Counter(word for words in texts for word in words)
    if len(counts) <= n_words:
        return texts
    known = set(sorted(counts, key=lambda word: (-counts[word], word))[:n_words])
    return [[word for word in words if word in known] for words in texts]


def _stable_hash(text: str) -> int:
    return zlib.crc32(text.encode())
