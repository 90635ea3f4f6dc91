"""What `nmcl features` prints."""

from dataclasses import dataclass

from nmcl.extractors import plugins
from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows import console
from nmcl.flows.cli.summary import of_rows
from nmcl.pipeline.errors import ExtractorError, UserError
from nmcl.pipeline.extractor import Extractor


@dataclass(frozen=True)
class ListedExtractor:
    """A row of `nmcl features`."""

    name: str
    modality: str
    dim: int | None
    """None if it depends on the model that the settings name."""
    weights: str
    licence: str
    size_mb: int | None
    """Of the published weights; None if the settings name the model."""
    source: str


def of_extractors(as_json: bool) -> None:
    """Print all extractors, with the dimension that their default settings give; for a broken one, the reason."""
    rows = [_listed(name) for name in (*EXTRACTORS, *plugins.installed())]
    for name, source in plugins.shadowed().items():
        console.note(f"{source} also brings an extractor {name}: the built-in one is used.")
    if as_json:
        of_rows(rows, ListedExtractor, "json", "Extractors")
        return
    header = ("name", "modality", "length", "MB", "weights", "source, licence")
    cells = [
        (r.name, r.modality, r.dim, r.size_mb, r.weights, f"{r.source}, {r.licence}" if r.licence else r.source)
        for r in rows
    ]
    console.table("Extractors", header, cells)


def _listed(name: str) -> ListedExtractor:
    try:
        entry = plugins.find(name)
    except ExtractorError as error:
        return ListedExtractor(name, "", None, str(error), "", 0, plugins.source_of(name))
    return ListedExtractor(
        name=name,
        modality=entry.modality,
        dim=None if hasattr(entry.settings, "model") else _dim(entry.build(entry.settings)),
        weights=entry.weights(),
        licence=entry.licence,
        size_mb=entry.size_mb,
        source=entry.source,
    )


def _dim(extractor: Extractor) -> int | None:
    try:
        return extractor.dim
    except UserError:
        return None
