"""Versions of the libraries that vectors are made with. They are no part of an address."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from nmcl.pipeline.needs import OCR, Need, Stream, Text

Versions = Mapping[str, Sequence[str]]
"""Name of each library -> its versions, sorted; several if parts or rows were made with different ones."""

OF_ALL = ("nmcl", "numpy")
OF_STREAM: Mapping[Stream, tuple[str, ...]] = {"frames": ("av", "cv2", "PIL"), "waveform": ("av", "imageio_ffmpeg")}
"""Modules that decode and preprocess."""
OF_OCR = (*OF_STREAM["frames"], "openvino", "rapidocr")
OF_COMPLETION = ("implicit", "scipy")
MADE_WITH = "made_with"
"""Key of the versions in the metadata of a part, and in the JSON of a state."""


@runtime_checkable
class HasLibraries(Protocol):
    """Protocol of extractors that name the libraries they compute with, besides numpy."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """Names of modules, as they are imported."""


def versions_of(extractor: object, need: Need) -> Versions:
    """Return the versions here of the libraries that an extractor and its need are computed with."""
    own = extractor.libraries if isinstance(extractor, HasLibraries) else ()
    decoding = OF_STREAM[need.stream] if need.stream else OF_OCR if need == Text(OCR) else ()
    return versions_here((*decoding, *own))


def versions_here(modules: Iterable[str]) -> Versions:
    """Return the versions here of the libraries with these modules, besides those that everything is computed with."""
    found = {"python": platform.python_version()} | {
        name: version(name) for module in (*OF_ALL, *modules) for name in _distributions().get(module, ())
    }
    return {name: (found[name],) for name in sorted(found)}


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    return packages_distributions()


def with_versions(table: pa.Table, versions: Versions | None) -> pa.Table:
    """Return a table whose file says which libraries made it; None: unknown."""
    if versions is None:
        return table
    return table.replace_schema_metadata({**(table.schema.metadata or {}), MADE_WITH.encode(): json.dumps(versions)})


def versions_in(table: pa.Table) -> Versions | None:
    """Return the versions that the file of a table names; None: it was made by a version of nmcl that names none."""
    try:
        return _versions(json.loads((table.schema.metadata or {})[MADE_WITH.encode()]))
    except (KeyError, ValueError):
        return None


def versions_of_state(info: Mapping[str, Any]) -> Versions | None:
    """Return the versions that the JSON of a state names; None: it was fitted by a version of nmcl that names none."""
    return _versions(info.get(MADE_WITH))


def _versions(found: object) -> Versions | None:
    """Return versions from JSON; None if it has another shape."""
    try:
        return {str(name): [str(v) for v in versions] for name, versions in found.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return None


def merged(versions: Iterable[Versions]) -> Versions:
    """Return all versions together."""
    found: dict[str, set[str]] = {}
    for of_one in versions:
        for name, names in of_one.items():
            found.setdefault(name, set()).update(names)
    return {name: sorted(found[name]) for name in sorted(found)}
