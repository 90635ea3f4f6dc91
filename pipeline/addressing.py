"""Which settings decide an address: those that differ from a frozen reference value, kept beside the field.

    key_frames: Annotated[int, Ge(1), Reference(8)] = 8
    device: Annotated[str, Unhashed()] = "auto"

So a new setting changes no address, and a default that changes does: it then differs from its reference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

REMOVED: Mapping[str, Any] = {"members": 1, "average": 0.0}
"""Settings of models that earlier versions had, with the values at which they changed nothing. Never used again."""


@dataclass(frozen=True)
class Reference:
    """The value of a setting that is left out of addresses. Never edited once it is released.

    Of a new setting it is the value that gives what was given before there was the setting; mostly its default.
    """

    value: Any


@dataclass(frozen=True)
class Unhashed:
    """Marks a setting that no address holds.

    It decides no value, as a device or a number of workers, or an address holds the content of the file it names.
    """


def hashed(settings: Any) -> dict[str, Any]:
    """The fields of a settings dataclass that differ from their references, as JSON values; nested ones likewise.

    A field without a marker is always among them.
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
    """Settings as an earlier version wrote them, and the references of those that it did not know.

    Args:
        kind: the settings dataclass.
        values: field name -> JSON value, nested as the dataclass is. Removed settings are left out; other names that
            are no fields are kept.
    """
    found = {name: value for name, value in values.items() if name not in REMOVED}
    for name, hint, marker in marked(kind):
        if isinstance(marker, Reference):
            found.setdefault(name, _plain(marker.value))
        elif is_dataclass(hint) and isinstance(inner := found.get(name, {}), Mapping):
            found[name] = with_references(hint, inner)  # type: ignore[arg-type]  # a class, not an instance
    return found


def at_references(kind: type[T]) -> T:
    """Settings all of whose fields have their references: what code uses that no setting reaches."""
    return kind(**{name: marker.value for name, _, marker in marked(kind) if isinstance(marker, Reference)})


def marked(kind: type) -> tuple[tuple[str, Any, Reference | Unhashed | None], ...]:
    """Of each field of a settings dataclass its name, its type and its marker."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field.name, *_parted(hints[field.name])) for field in fields(kind))


def _parted(hint: Any) -> tuple[Any, Reference | Unhashed | None]:
    if get_origin(hint) is not Annotated:
        return hint, None
    bare, *extras = get_args(hint)
    return bare, next((extra for extra in extras if isinstance(extra, Reference | Unhashed)), None)


def _plain(value: Any) -> Any:
    """As JSON has it: tuples are lists."""
    return json.loads(json.dumps(value))
