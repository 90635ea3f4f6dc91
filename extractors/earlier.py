"""Extractor addresses as written before reference values existed, with all settings, to match recipes in old stores."""

import hashlib
from dataclasses import asdict

from nmcl.extractors.acoustic import AcousticExtractor
from nmcl.extractors.textual import TextualExtractor
from nmcl.extractors.visual import VisualExtractor
from nmcl.pipeline.extractor import Extractor


def earlier_address(extractor: Extractor) -> dict[str, object]:
    """Return the address that earlier versions gave the same settings.

    Extractors of other packages keep their present address. Loads a network's weights, because their tensors were
    hashed.
    """
    address = extractor.address()
    if isinstance(extractor, VisualExtractor):
        settings = asdict(extractor.settings) | {"backbone": extractor.name}
        del settings["weights"], settings["device"], settings["sequence"]
        preprocess = asdict(extractor.backbone.preprocess)
        del preprocess["squash"]
        code = [address["code_version"], address["keyframes_version"]]
        return {"settings": settings, "preprocess": preprocess, "weights": _digest_of_tensors(extractor), "code": code}
    if isinstance(extractor, TextualExtractor):
        extra = extractor.extra_digest if extractor.settings.extra_text else ""
        settings = asdict(extractor.settings)
        del settings["text"]
        return {**settings, "extra_text": extra, "code_version": address["code_version"]}
    if isinstance(extractor, AcousticExtractor):
        versions = {name: address[name] for name in ("code_version", "autoencoder_version")}
        settings = asdict(extractor.settings)
        del settings["sequence"]
        return {**settings, **versions}
    return address


def _digest_of_tensors(extractor: VisualExtractor) -> str:
    if extractor.settings.weights == "random":
        return "random"
    hashed = hashlib.sha256()
    for name, tensor in sorted(extractor.weights.items()):
        hashed.update(name.encode())
        hashed.update(tensor.contiguous().numpy().tobytes())
    return hashed.hexdigest()
