"""The extractors of a run, and the addresses of what they make."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from nmcl.extractors import plugins
from nmcl.extractors.ocr import OcrReader
from nmcl.extractors.plugins import PluginExtractor
from nmcl.extractors.thumbnails import Thumbnailer
from nmcl.flows.settings import Settings, from_tree, to_tree
from nmcl.flows.settings_tree import Tree
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.crawl.texts import CODE_VERSION as TEXT_CODE_VERSION
from nmcl.pipeline.errors import ExtractorError
from nmcl.pipeline.extractor import Extractor, HasWeights
from nmcl.pipeline.needs import DESCRIPTION, OCR, Text, TextSource
from nmcl.pipeline.stages.extract import CODE_VERSION as EXTRACT_CODE_VERSION
from nmcl.pipeline.stages.thumbnails import Thumbnails
from nmcl.pipeline.storage.artifacts import Artifact


@dataclass(frozen=True)
class Extractors:
    """The extractors for some settings. Each loads its network on first use."""

    settings: Settings

    def __reduce__(self) -> tuple[type["Extractors"], tuple[object, ...]]:
        """Pickle only the settings: the receiving process loads its own networks."""
        return ReceivedExtractors, (to_tree(self.settings), plugins.permitted(), self.plugin_addresses())

    def plugin_addresses(self) -> dict[str, dict[str, object]]:
        """Return the addresses of the extractors that are not built in, by the name of their feature set."""
        return {name: own.address() for name, own in self.all.items() if isinstance(own, PluginExtractor)}

    @cached_property
    def all(self) -> dict[str, Extractor]:
        """All extractors by the name of their feature set."""
        return {name: chosen.build() for name, chosen in self.settings.features.items()}

    def fetch(self) -> None:
        """Make sure that published weights are on this machine. Raises WeightsError."""
        for extractor in self.all.values():
            if isinstance(extractor, HasWeights):
                extractor.fetch()

    def decoding(self) -> dict[str, object]:
        """Return everything that decides the frames and waveforms passed to an extractor, besides the file."""
        return self.settings.media.address()

    @cached_property
    def texts(self) -> Mapping[TextSource, Artifact]:
        """The texts that feature sets read besides descriptions, by source."""
        needs = (extractor.need for extractor in self.all.values())
        sources = dict.fromkeys(need.source for need in needs if isinstance(need, Text))
        return {source: self._text(source) for source in sources if source != DESCRIPTION}

    def _text(self, source: TextSource) -> Artifact:
        recipe: dict[str, object] = {"source": source, "code_version": TEXT_CODE_VERSION}
        if source == "subtitles":
            recipe["settings"] = hashed(self.settings.subtitles)
        if source == OCR:
            recipe = {"source": source, "reader": OcrReader(self.settings.ocr).address(), "decoding": self.decoding()}
        return Artifact(f"texts/{source}", recipe, self._texts_in_full(source))

    def _texts_in_full(self, source: TextSource) -> dict[str, object]:
        sections = {"subtitles": ("subtitles",), OCR: ("ocr", "media")}.get(source, ())
        return in_full(self.settings, *sections)

    @cached_property
    def reader(self) -> OcrReader | None:
        """The reader of text on screen, if a feature set needs it."""
        return OcrReader(self.settings.ocr) if OCR in self.texts else None

    def text_of(self, name: str) -> Artifact | None:
        """Return the texts that a feature set reads; None for descriptions, pictures and sound."""
        need = self.all[name].need
        return self.texts.get(need.source) if isinstance(need, Text) else None

    @property
    def thumbnails(self) -> Thumbnails | None:
        """Small key frames that are kept of each video; None if the settings turn them off."""
        settings = self.settings.thumbnails
        if not settings.images:
            return None
        recipe: dict[str, object] = {"images": settings.address(), "decoding": self.decoding()}
        artifact = Artifact("thumbnails/images", recipe, in_full(self.settings, "thumbnails", "media"))
        return Thumbnails(Thumbnailer(settings), artifact)

    def features(self, name: str, state_address: str | None) -> Artifact:
        """Return the artifact of the vectors of one feature set."""
        extractor = self.all[name]
        recipe: dict[str, object] = {
            "extractor": extractor.address(),
            "state": state_address,
            "code_version": EXTRACT_CODE_VERSION,
        }
        if extractor.need.stream:
            recipe["decoding"] = self.decoding()
        if text := self.text_of(name):
            recipe["texts"] = text.recipe
        if getattr(self.settings.features[name].options, "sequence", False):
            recipe["sequence"] = True
        return Artifact(f"features/{name}", recipe, self.in_full(name))

    def failures(self) -> Artifact:
        """Return the artifact that lists videos that do not decode."""
        return Artifact("failures/media", {"decoding": self.decoding()}, in_full(self.settings, "media"))

    def in_full(self, name: str) -> dict[str, object]:
        """Return all settings that the vectors of a feature set may depend on, and its modality."""
        extractor = self.all[name]
        decoded = () if isinstance(extractor.need, Text) else ("media",)
        own = {"modality": extractor.modality, **to_tree(self.settings)["features"][name]}
        if isinstance(extractor, PluginExtractor):
            own["source"] = extractor.source
        text = self.text_of(name)
        return {"features": {name: own}, **in_full(self.settings, *decoded), **(text.settings if text else {})}


class ReceivedExtractors(Extractors):
    """Extractors in a worker process. They are imported on first use, so that an error is raised by the work.

    Args:
        tree: The settings, nested.
        permitted: See `nmcl.extractors.plugins.permit`.
        addresses: Those of the command's `plugin_addresses`.
    """

    def __init__(self, tree: Tree, permitted: dict[str, str], addresses: dict[str, dict[str, object]]) -> None:
        self._received = tree, permitted, addresses

    def __reduce__(self) -> tuple[type[Extractors], tuple[object, ...]]:
        return ReceivedExtractors, self._received

    @cached_property
    def settings(self) -> Settings:
        """The command's settings."""
        tree, permitted, addresses = self._received
        plugins.permit(permitted)
        settings = from_tree(tree)
        here = Extractors(settings).plugin_addresses()
        if other := [name for name in addresses if addresses[name] != here.get(name)]:
            extractor = settings.features[other[0]].extractor
            raise ExtractorError(
                f"A worker has another version of the extractor {extractor} than the command. Install the same version "
                "on all machines, and restart the workers."
            )
        return settings


def in_full(settings: Settings, *sections: str) -> dict[str, object]:
    """Return some sections of the settings as JSON values, for display."""
    tree = to_tree(settings)
    return {section: tree[section] for section in sections}
