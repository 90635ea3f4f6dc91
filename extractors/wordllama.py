"""Text features of WordLlama: token vectors distilled from large language models.

The package `wordllama` (MIT) contains its weights and tokenizer, so nothing is downloaded or fitted. A text's vector is
the mean of its tokens' vectors, as in the package's own `embed`.
"""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from nmcl.pipeline.addressing import Unhashed
from nmcl.pipeline.errors import SettingsError, WeightsError
from nmcl.pipeline.needs import DESCRIPTION, Text, TextSource
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same texts give different vectors."""
FILES = {
    "weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    "tokenizers/l2_supercat_tokenizer_config.json": "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
"""Files of the package with their SHA-256: the weights, and the tokenizer."""


@dataclass(frozen=True)
class WordLlamaSettings:
    """Frozen settings of WordLlama."""

    text: Annotated[TextSource, Unhashed()] = DESCRIPTION
    """Source of the texts: `description`, `title`, `tags`, `subtitles` or `ocr`. The address of features has the recipe
    of texts from other sources."""


def is_installed() -> bool:
    """Return whether the package with the weights and its tokenizer's package are installed."""
    return find_spec("wordllama") is not None and find_spec("tokenizers") is not None


class WordLlamaExtractor:
    """Extractor whose vector is the mean of a text's token vectors."""

    modality: Modality = "textual"
    dim = 256
    fit_videos = 0
    libraries = ("safetensors", "tokenizers", "wordllama")

    def __init__(self, settings: WordLlamaSettings) -> None:
        self.settings = settings
        self.need = Text(settings.text)

    def address(self) -> dict[str, object]:
        return {"name": "wordllama", "files": [*FILES.values()], "code_version": CODE_VERSION}

    def check(self) -> None:
        """Raise SettingsError if the package is not installed."""
        self._folder()

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: the vectors are pretrained."""
        return State()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        """Return vectors (len(clips), 256), float32; NaN if the text is absent or has no token."""
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        for vector, clip in zip(vectors, clips, strict=True):
            if tokens := self._tokens(clip.text or ""):
                vector[:] = self._weights[tokens].mean(axis=0, dtype=np.float32)
        return vectors

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids if text.strip() else []
        return tokens

    @cached_property
    def _weights(self) -> np.ndarray:
        """Token vectors, shape (32,000, 256), float32."""
        from safetensors.numpy import load

        (tensor,) = load(self._checked("weights/l2_supercat_256.safetensors")).values()
        return np.asarray(tensor, dtype=np.float32)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._checked("tokenizers/l2_supercat_tokenizer_config.json").decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def _checked(self, name: str) -> bytes:
        path = self._folder() / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path} cannot be read ({error}). Reinstall the package wordllama.") from error
        if hashlib.sha256(data).hexdigest() != FILES[name]:
            raise WeightsError(f"{path} is not the file of wordllama 0.4.0.post1. Install that version of the package.")
        return data

    @staticmethod
    def _folder() -> Path:
        found = find_spec("wordllama")
        if not is_installed() or found is None or not found.submodule_search_locations:
            raise SettingsError(
                "The extractor wordllama needs the package wordllama, which is not installed. Install it with\n"
                f"    {sys.executable} -m pip install 'nmcl[wordllama]'"
            )
        return Path(found.submodule_search_locations[0])
