"""Settings as nested values: a TOML file, then `--set`. See `nmcl.flows.settings` for their meaning."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nmcl.pipeline.errors import SettingsError

Tree = dict[str, Any]
"""Nested settings as TOML and JSON values."""
MAX_DEPTH = 20
"""Levels of nested settings; the deepest ones of an extractor take five."""
MAX_NUMBER = 2**53
"""Largest absolute value of a number: JSON carries larger integers, infinity and NaN unreliably."""


def load_tree(config: Path | None = None, assignments: Iterable[str] = ()) -> Tree:
    """Return the settings of a TOML file, overridden by `SECTION.NAME=VALUE` assignments; for `from_tree` or `changed`.

    Raises:
        SettingsError: If the file cannot be read, or a text is not an assignment.
    """
    tree = _read_toml(config) if config else {}
    require_plain(tree)
    for assignment in assignments:
        tree = merged(tree, _parse(assignment))
    return tree


def require_plain(tree: Tree) -> None:
    """Raise SettingsError if values are nested deeper than any setting, or numbers are not finite or far too large."""
    todo: list[tuple[str, int, Any]] = [("", 0, tree)]
    while todo:
        name, depth, value = todo.pop()
        if depth > MAX_DEPTH:
            raise SettingsError(f"{name[:60]}... is nested in more than {MAX_DEPTH} levels; no setting is.")
        if isinstance(value, Mapping):
            todo += [(f"{name}.{key}" if name else str(key), depth + 1, item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            todo += [(name, depth + 1, item) for item in value]
        elif isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
            shown = value if isinstance(value, float) else "an integer"
            raise SettingsError(f"{name} is {shown}; expected a number of at most {MAX_NUMBER:.3g}.")


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Return `base` with the values of `over`, merged section by section."""
    tree = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = merged(tree[key], value) if both else value
    return tree


def agrees(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Return whether changes leave nested settings as they are."""
    return merged(tree, changes) == tree


def _read_toml(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise SettingsError(f"The settings file {path} has values that are nested too deeply.") from error
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # not TOML, not UTF-8, or an integer of thousands of digits
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from error


def _parse(assignment: str) -> Tree:
    """Parse `a.b=value` to {"a": {"b": value}}. The value is parsed as TOML, else it is text."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise SettingsError(
            f"--set {assignment}: expected SECTION.NAME=VALUE, such as features.visual.extractor=resnet101."
        )
    tree: Any = _value(text.strip())
    for key in reversed(name.strip().split(".")):
        tree = {key: tree}
    require_plain(tree)
    return tree  # type: ignore[no-any-return]


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
