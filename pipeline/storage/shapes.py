"""Schemas of a store's JSON files, as far as they are read back.

`Store.read_json` checks a file by its name; `Store.read_record` reads one into a frozen dataclass.

A file may have more keys than are named here: other versions write them.
"""

import json
import math
import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Len
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Address = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
"""See `nmcl.pipeline.storage.artifacts.digest`."""
RunFolder = Annotated[str, Field(pattern=r"^runs/[^/.][^/]*$")]
Name = Annotated[str, Field(pattern=r"^[^/\x00]+$")]
Count = Annotated[int, Ge(0)]
Section = dict[str, Any]
T = TypeVar("T")


def _having(**keys: Any) -> Any:
    """Return the schema of a JSON object with these keys, each of a type."""
    return TypedDict("JsonObject", keys)  # type: ignore[operator]


_SHAPES: tuple[tuple[str, Any], ...] = (
    (r"store\.json", _having(format=int)),
    (r"(latest|champion)\.json", _having(leads_to=RunFolder)),
    (r"champions\.json", _having(champion=RunFolder)),
    (r"(.+/)?settings\.json", Annotated[dict[str, Section], Len(1)]),
    (r"runs/.+/recipe\.json", _having(completed=Address)),
    (r"runs/.+/made_with\.json", _having(libraries=dict[str, str])),
    (r"(metadata/)?completed/.+/recipe\.json", _having(completion=Address)),
    (r"states/completion-.+/recipe\.json", _having(features=Annotated[list[Address], Len(3, 3)] | dict[Name, Address])),
    (r"(metadata/)?features/.+/recipe\.json", _having(state=Address | None)),
    (r"states/.+/left_out\.json", _having(videos=list[dict[str, str]], attempts=Count)),
    (r".+/(state|recipe)\.json", dict[str, Any]),
)
"""Schemas by a pattern of the whole file name; the first match is used."""


def of(name: str) -> Any:
    """Return the schema of a file of the store, by its name in it."""
    return next((kind for pattern, kind in _SHAPES if re.fullmatch(pattern, name, re.DOTALL)), Any)


def parse_json(data: bytes, kind: Any = Any) -> Any:
    """Parse JSON of a type that can be written again. Raises ValueError or RecursionError."""
    content = json.loads(data, parse_constant=_no_number, parse_float=_finite)
    json.dumps(content, ensure_ascii=False).encode()  # halves of surrogate pairs could not be written again
    require(kind, content)
    return content


def parse_record(data: bytes, kind: type[T]) -> T:
    """Parse JSON as a frozen dataclass, ignoring unknown keys. Raises ValueError or RecursionError."""
    parse_json(data)  # stricter than pydantic: no NaN, nothing that could not be written again
    record: T = _validated(lambda: adapter(kind).validate_json(data, strict=True))
    return record


def to_json(record: Any) -> Any:
    """Return a record as JSON values for `parse_record`: fields with an alias are written under it."""
    return adapter(type(record)).dump_python(record, by_alias=True, warnings=False)


def require(kind: Any, content: Any) -> None:
    """Raise ValueError unless JSON content is of a type."""
    _validated(lambda: adapter(kind).validate_python(content, strict=True))


def _validated(validate: Callable[[], T]) -> T:
    try:
        return validate()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][:8]) or "the content"
        raise ValueError(f"{where}: {first['msg']}") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Return the cached adapter of a type; creating one takes milliseconds."""
