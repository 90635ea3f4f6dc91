"""Weights of words, word pairs and character n-grams of descriptions. The only module that imports scikit-learn's text.

The classic features of linear models of short texts: Wang and Manning, "Baselines and Bigrams", ACL 2012, for words and
pairs; Cavnar and Trenkle, "N-Gram-Based Text Categorization", 1994, for n-grams within words, which survive spelling,
inflection and languages without spaces. The vector is their latent semantic analysis (Deerwester et al., 1990).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from annotated_types import Ge, Interval
from threadpoolctl import threadpool_limits

from nmcl.extractors.hashtags import HashtagSplitter
from nmcl.extractors.tokenizer import normalized, tokens
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import DESCRIPTION, Text, TextSource
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State
from nmcl.pipeline.storage.shapes import require
from nmcl.pipeline.storage.state_checks import checking_state, require_array
from nmcl.pipeline.storage.tables import MOST_TERMS

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same settings give different weights."""

MOST_WORDS = 1 << 40
"""Highest plausible count of one word in a stored state."""
SVD_TEXTS = 50_000
"""Texts that the reduction is fitted on: a minute's work."""
NOISE = 1e-5
"""Share of the largest singular value below which a component is rounding noise."""


@dataclass(frozen=True)
class NgramSettings:
    """Frozen settings of n-gram weights."""

    dim: Annotated[int, Ge(1), Reference(200)] = 200
    """Length of the reduced vector, for models of dense features."""
    max_terms: Annotated[int, Interval(ge=2, le=MOST_TERMS), Reference(65_536)] = 65_536
    """Number of terms: those in most training texts."""
    fit_videos: Annotated[int, Ge(1), Reference(200_000)] = 200_000
    """Maximum number of training videos."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of the reduction."""
    text: Annotated[TextSource, Unhashed()] = DESCRIPTION
    """Source of the texts: `description`, `title`, `tags`, `subtitles` or `ocr`. The address of features has the recipe
    of texts from other sources."""


class NgramExtractor:
    """Extractor of sparse tf-idf weights of terms, and of a vector reduced from them.

    Terms are single words and pairs of neighbours, hashtags among them whole and split into words, emoji and @names;
    and the 2 to 5 characters long n-grams of words. The weights of each of the two kinds have Euclidean length 1.
    """

    modality: Modality = "textual"
    libraries = ("scipy", "sklearn", "threadpoolctl")

    def __init__(self, settings: NgramSettings) -> None:
        self.settings = settings
        self.need = Text(settings.text)
        self.dim = settings.dim
        self.fit_videos = settings.fit_videos
        self._last: tuple[State, _Weighing] | None = None

    def address(self) -> dict[str, object]:
        return {"name": "ngrams", "settings": hashed(self.settings), "code_version": CODE_VERSION}

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Choose terms from at most `fit_videos` descriptions, weigh them, and fit the reduction."""
        descriptions = (clip.text or "" for clip in islice(clips, self.fit_videos))
        texts = [text for text in descriptions if tokens(text)]
        if not texts:
            return State()
        words = _word_counts(texts, self.settings.max_terms)
        analysis = _Analysis(HashtagSplitter(words))
        progress("fit ngrams", 0, 3)
        n_texts = analysis.counts(texts)
        progress("fit ngrams", 1, 3)
        terms = _most_common(n_texts, self.settings.max_terms)
        shares = np.array([n[term] for n, chosen in zip(n_texts, terms, strict=True) for term in chosen], np.float64)
        idf = (np.log((1 + len(texts)) / (1 + shares)) + 1).astype(np.float32)  # scikit-learn's smoothed one
        rows = np.random.default_rng(self.settings.seed).permutation(len(texts))[:SVD_TEXTS]
        weights, _ = _Weighing(analysis, terms, idf).weights([texts[i] for i in np.sort(rows)])
        progress("fit ngrams", 2, 3)
        components = self._components(weights)
        progress("fit ngrams", 3, 3)
        return State(
            arrays={"idf": idf, "components": components, "counts": np.array(list(words.values()), dtype=np.int64)},
            info={"word_terms": terms[0], "character_terms": terms[1], "words": list(words), "n_texts": len(texts)},
        )

    def _components(self, weights: "csr_array") -> np.ndarray:
        """Return the reduction of term weights, shape (T, dim), float32; zeros beyond their rank."""
        from sklearn.utils.extmath import randomized_svd

        n_components = min(self.dim, *weights.shape)
        with threadpool_limits(1):  # products split among threads may round differently
            _, strengths, found = randomized_svd(weights, n_components, n_iter=5, random_state=self.settings.seed)
        n_sound = int((strengths > NOISE * strengths[0]).sum())
        components = np.zeros((weights.shape[1], self.dim), np.float32)
        components[:, :n_sound] = found[:n_sound].T
        return components

    def extract(self, clips: Sequence[Clip], state: State) -> Extracted:
        """Return vectors (len(clips), dim) and term weights (len(clips), T), both float32.

        Vectors are NaN and weights empty if the text is absent or has no token. Of texts without a known term, both are
        zeros. An empty state has no terms: T is 0.
        """
        from scipy.sparse import csr_array

        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        if not state.arrays:
            return Extracted(vectors, terms=csr_array((len(clips), 0), dtype=np.float32))
        terms, present = self._rebuilt(state).weights([clip.text or "" for clip in clips])
        vectors[present] = (terms @ state.arrays["components"])[present]
        return Extracted(vectors, terms=terms)

    def _rebuilt(self, state: State) -> "_Weighing":
        """Return the vocabularies of a state, cached for the next batch."""
        if self._last is None or self._last[0] is not state:
            self._last = (state, self._checked(state))
        return self._last[1]

    def _checked(self, state: State) -> "_Weighing":
        """Return the weighing of a state; raise StoreError if it is not one of this extractor."""
        with checking_state("ngrams"):
            terms, words = [state.info["word_terms"], state.info["character_terms"]], state.info["words"]
            for found in (*terms, words):
                require(list[str], found)
                if len(set(found)) != len(found):
                    raise ValueError("terms or words are repeated")
            n_terms = sum(map(len, terms))
            require_array(state, "components", (n_terms, self.dim))
            idf = require_array(state, "idf", (n_terms,))
            counts = state.arrays["counts"]
            if counts.shape != (len(words),) or counts.dtype != np.int64:
                raise ValueError(f"counts is {counts.dtype} of shape {counts.shape}, expected int64 of ({len(words)},)")
            if ((counts < 1) | (counts > MOST_WORDS)).any():
                raise ValueError(f"counts has values outside of 1..{MOST_WORDS:,}")
            if idf.min() <= 0:
                raise ValueError("idf has values of 0 or less")
        splitter = HashtagSplitter(dict(zip(words, counts.tolist(), strict=True)))
        return _Weighing(_Analysis(splitter), terms, idf)


class _Analysis:
    """The terms of texts, by kind: words with pairs, and character n-grams."""

    def __init__(self, splitter: HashtagSplitter) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._splitter = splitter
        of_words = {"tokenizer": list, "preprocessor": _unchanged, "token_pattern": None, "ngram_range": (1, 2)}
        of_characters = {"analyzer": "char_wb", "preprocessor": normalized, "ngram_range": (2, 5)}
        self.options: tuple[dict[str, Any], ...] = (of_words, of_characters)
        """Arguments of scikit-learn's vectorizers, which get the `inputs`."""
        self._kinds = [CountVectorizer(lowercase=False, **options).build_analyzer() for options in self.options]

    def inputs(self, texts: Iterable[str]) -> Iterator[tuple[list[str], str]]:
        """Yield what the terms of each kind are made from; both are empty for a text without a token."""
        for text in texts:
            found = tokens(text, self._splitter.words)
            yield found, text if found else ""

    def counts(self, texts: Iterable[str]) -> tuple[Counter[str], ...]:
        """Return the number of texts that have a term, by kind and term."""
        counts: tuple[Counter[str], ...] = (Counter(), Counter())
        for given in self.inputs(texts):
            for counted, terms_in, text in zip(counts, self._kinds, given, strict=True):
                counted.update(set(terms_in(text)))
        return counts


class _Weighing:
    """Tf-idf weights of fixed terms."""

    def __init__(self, analysis: _Analysis, terms: Sequence[Sequence[str]], idf: np.ndarray) -> None:
        self._analysis = analysis
        self._vectorizers = [
            (_vectorizer(options, chosen, own), len(chosen))
            for options, chosen, own in zip(analysis.options, terms, np.split(idf, [len(terms[0])]), strict=True)
        ]

    def weights(self, texts: Sequence[str]) -> tuple["csr_array", np.ndarray]:
        """Return the weights of texts, and which texts have a token: shapes (N, T), float32, and (N,), bool.

        Columns are sorted. A row is empty if none of the terms is in the text.
        """
        from scipy.sparse import csr_array, hstack

        inputs = list(self._analysis.inputs(texts))
        given = zip(*inputs, strict=True) if inputs else ((), ())
        blocks = [
            vectorizer.transform(of_kind) if vectorizer and inputs else csr_array((len(texts), n_terms))
            for (vectorizer, n_terms), of_kind in zip(self._vectorizers, given, strict=True)
        ]
        weights = csr_array(hstack(blocks), dtype=np.float32)
        weights.sort_indices()
        return weights, np.array([bool(found) for found, _ in inputs], bool)


def _vectorizer(options: dict[str, Any], terms: Sequence[str], idf: np.ndarray) -> "TfidfVectorizer | None":
    """Return scikit-learn's vectorizer with its fitted values; None without a term, which the class refuses."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not terms:
        return None
    vectorizer = TfidfVectorizer(vocabulary=terms, sublinear_tf=True, lowercase=False, dtype=np.float32, **options)
    vectorizer.idf_ = idf
    return vectorizer


def _unchanged(found: list[str]) -> list[str]:
    return found


def _word_counts(texts: Iterable[str], n_words: int) -> dict[str, int]:
    """Return the counts of the most frequent plain words, which hashtags may be made of; ties are alphabetical."""

    def plain(text: str) -> Iterator[str]:
        return (token for token in tokens(text, lambda _: ()) if token[0].isalnum() and "." not in token)

    counts = Counter(word for text in texts for word in plain(text))
    return {word: counts[word] for word in nsmallest(n_words, counts, key=lambda word: (-counts[word], word))}


def _most_common(n_texts: Sequence[Counter[str]], n_terms: int) -> list[list[str]]:
    """Return for each kind the terms, sorted, that are among those of all kinds in most texts."""
    ranked = ((-n, term, kind) for kind, counts in enumerate(n_texts) for term, n in counts.items())
    chosen = nsmallest(n_terms, ranked)
    return [sorted(term for _, term, of in chosen if of == kind) for kind in range(len(n_texts))]
