"""From raw micro-videos to multimodal features and predictions.

    nmcl.open("out")                            a store: its feature sets, videos and runs
    nmcl.extract(paths, ["resnet50"])           vectors of some files, without a store
    nmcl.NMCLClassifier()                       a scikit-learn classifier of several modalities

See docs/python.md. These names are imported on first use: `import nmcl` alone loads neither PyTorch nor Prefect.

The sub-packages are `pipeline` (crawls, storage, media, stages), `extractors`, `model` and `flows` (runs on Prefect
and the command line).
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nmcl.flows.api import Features as Features
    from nmcl.flows.api import Run as Run
    from nmcl.flows.api import StoreReader as StoreReader
    from nmcl.flows.api import open_store as open
    from nmcl.flows.run.files import Extraction as Extraction
    from nmcl.flows.run.files import extract as extract
    from nmcl.model.classifier import NMCLClassifier as NMCLClassifier

__all__ = ["Extraction", "Features", "NMCLClassifier", "Run", "StoreReader", "__version__", "extract", "open"]
__version__ = version("nmcl")

_SOURCES = {
    "Extraction": ("nmcl.flows.run.files", "Extraction"),
    "Features": ("nmcl.flows.api", "Features"),
    "NMCLClassifier": ("nmcl.model.classifier", "NMCLClassifier"),
    "Run": ("nmcl.flows.api", "Run"),
    "StoreReader": ("nmcl.flows.api", "StoreReader"),
    "extract": ("nmcl.flows.run.files", "extract"),
    "open": ("nmcl.flows.api", "open_store"),
}
"""Module and name of everything that is imported on first use."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use. Raises AttributeError if there is none."""
    if name not in _SOURCES:
        raise AttributeError(f"module 'nmcl' has no attribute {name!r}")
    module, attribute = _SOURCES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
