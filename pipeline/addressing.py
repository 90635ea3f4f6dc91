"""Selection of the settings that decide an address: those that differ from a frozen reference value of their field.

    key_frames: Annotated[int, Ge(1), Reference(8)] = 8
    device: Annotated[str, Unhashed()] = "auto"

So a new setting changes no address, and a changed default does: it then differs from its reference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

REMOVED: Mapping[str, Any] = {"members": 1, "average": 0.0}
"""Model settings of earlier versions, with the values at which they had no effect. Never reuse these names."""


@dataclass(frozen=True)
class Reference:
    """Reference value, at which a setting is left out of addresses. Never edit it once released.

    For a new setting, use the value that reproduces the behaviour before the setting existed; usually its default.
    """

    value: Any


@dataclass(frozen=True)
class Unhashed:
    """Mark a setting that is never part of an address.

    Either it changes no result, like a device or a number of workers, or the address holds the content of the file it
    names.
    """


def hashed(settings: Any) -> dict[str, Any]:
    """Return the fields of a settings dataclass that differ from their references, as JSON values, recursively.

    A field without a marker is always included.
    """
    found: dict[str, Any] = {}
    for name, _, marker in marked(type(settings)):
        value = getattr(settings, name)
        if is_dataclass(value) and marker is None:
            if inner := hashed(value):
                found[name] = inner
        elif marker is None or (isinstance(marker, Reference) and _plain(value) != _plain(marker.value)):
            found[name] = _plain(value)
    return found


def with_references(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings written by an earlier version, with references filled in for settings that it did not know.

    Args:
        kind: The settings dataclass.
        values: Field name -> JSON value, nested as the dataclass is. Removed settings are dropped; other names that are
            no fields are kept.
    """
    found = {name: value for name, value in values.items() if name not in REMOVED}
    for name, hint, marker in marked(kind):
        if isinstance(marker, Reference):
            found.setdefault(name, _plain(marker.value))
        elif is_dataclass(hint) and isinstance(inner := found.get(name, {}), Mapping):
            found[name] = with_references(hint, inner)  # type: ignore[arg-type]  # a class, not an instance
    return found


def at_references(kind: type[T]) -> T:
    """Return settings with all fields at their references, for code that no setting reaches."""
    return kind(**{name: marker.value for name, _, marker in marked(kind) if isinstance(marker, Reference)})


def marked(kind: type) -> tuple[tuple[str, Any, Reference | Unhashed | None], ...]:
    """Return the name, type and marker of each field of a settings dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field.name, *_parted(hints[field.name])) for field in fields(kind))


def _parted(hint: Any) -> tuple[Any, Reference | Unhashed | None]:
    if get_origin(hint) is not Annotated:
        return hint, None
    bare, *extras = get_args(hint)
    return bare, next((extra for extra in extras if isinstance(extra, Reference | Unhashed)), None)


def _plain(value: Any) -> Any:
    """Return a value as JSON represents it: tuples become lists."""
    return json.loads(json.dumps(value))
