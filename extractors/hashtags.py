"""Words of hashtags: `#CoffeeShop`, `#coffee_shop` and `#coffeeshop` are coffee and shop, in any language.

A tag is cut where its case changes, at underscores, and between letters and digits. What remains is split into words of
a corpus as by P. Norvig, "Natural Language Corpus Data", in Beautiful Data, O'Reilly 2009: the words are independent,
and Viterbi's algorithm finds the most probable ones. A tag that is no chain of known words stays whole, as nothing says
where its unknown part ends.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache

from nmcl.extractors.tokenizer import spaced_words

MAX_LENGTH = 60
"""Longest chain of letters that is split; with longer ones the cost of hostile tags would grow."""
_CHAINS = re.compile("U+(?=Ul)|Ul+|U+|l+|d+")
"""Chains of one case or of digits, in a tag written as kinds of characters: `NYCLife` is `UUUUlll`, NYC and Life."""


class HashtagSplitter:
    """Splits hashtags into words of a corpus."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        total = sum(counts.values()) + 1  # so that one word is more probable than two of the same counts
        self._costs = {word: math.log(total / n) for word, n in counts.items()}
        self._unknown = math.log(total)
        self._longest = max(map(len, counts), default=0)
        self.words = lru_cache(maxsize=1 << 16)(self._words)
        """Return the words of a hashtag as it is written, without the #, in lower case."""

    def _words(self, tag: str) -> tuple[str, ...]:
        kinds = "".join("U" if c.isupper() else "d" if c.isdigit() else "_" if c == "_" else "l" for c in tag)
        chains = (tag[slice(*match.span())] for match in _CHAINS.finditer(kinds))
        return tuple(word for chain in chains for spaced in spaced_words(chain) for word in self._split(spaced))

    def _split(self, chain: str) -> list[str]:
        if len(chain) > MAX_LENGTH:
            return [chain]
        best: list[tuple[float, list[str]]] = [(0.0, [])]
        for end in range(1, len(chain) + 1):
            before = ((start, chain[start:end]) for start in range(max(0, end - self._longest), end))
            known = ((start, word, self._costs[word]) for start, word in before if word in self._costs)
            best.append(
                min(((best[i][0] + cost, [*best[i][1], word]) for i, word, cost in known), default=(math.inf, []))
            )
        whole = self._unknown + len(chain) * math.log(10)  # Norvig's estimate: a tenth for each letter
        cost, words = best[-1]
        return words if cost < whole else [chain]
