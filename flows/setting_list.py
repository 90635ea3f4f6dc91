"""Every setting with its meaning, default and value: for `nmcl settings`, its settings file and docs/settings.md.

The meaning of a setting is the docstring below its field.
"""

import ast
import difflib
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from nmcl.flows.feature_settings import DEFAULTS, FeatureChoice, to_tree
from nmcl.flows.settings import COMMON, ModelChoice, Settings
from nmcl.model.registry import MODELS
from nmcl.pipeline.errors import SettingsError

HEADING = """\
# Settings of nmcl, for `--config`. A line `#name = value` is at its default: remove the # to change it.
# A setting without a value is not set. `--set SECTION.NAME=VALUE` overrides this file."""


@dataclass(frozen=True)
class ListedSetting:
    """One setting; a row of `nmcl settings --json`."""

    name: str
    """Name with its sections, separated by dots."""
    meaning: str
    default: Any
    """Default of the chosen extractor or model, as a JSON value."""
    value: Any
    """Value in the store; the default if there is no store."""
    choices: tuple[str, ...] = ()
    """The only values allowed, if they are words."""

    @property
    def is_changed(self) -> bool:
        """Whether the value is not the default."""
        return bool(self.value != self.default)


def listed_settings(settings: Settings, section: str = "") -> list[ListedSetting]:
    """Return the settings of a section such as `split` or `features.visual`, or one setting; by default all.

    Raises:
        SettingsError: If there is no such section or setting.
    """
    rows = list(_rows(settings))
    if not section:
        return rows
    found = [row for row in rows if f"{row.name}.".startswith(f"{section}.")]
    if not found:
        sections = dict.fromkeys(".".join(row.name.split(".")[:n]) for row in rows for n in (1, 2, 3))
        close = difflib.get_close_matches(section, list(sections), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        top = ", ".join(dict.fromkeys(row.name.split(".")[0] for row in rows))
        raise SettingsError(f"There is no section or setting {section!r}.{hint} The sections are {top}.")
    return found


def _rows(settings: Settings) -> Iterator[ListedSetting]:
    defaults: Settings = Settings()
    for section in (field.name for field in fields(Settings)):
        if section == "features":
            yield from _of_features(settings)
        elif section == "model":
            yield from _of_model(settings.model)
        else:
            yield from _of_fields(section, getattr(settings, section), getattr(defaults, section))


def _of_features(settings: Settings) -> Iterator[ListedSetting]:
    meaning = meanings(FeatureChoice)["extractor"]
    for name, values in to_tree(settings.features).items():
        section = f"features.{name}"
        yield ListedSetting(f"{section}.extractor", meaning, DEFAULTS.get(name), values["extractor"])
        if chosen := settings.features.get(name):
            yield from _of_fields(section, chosen.options, chosen.entry.settings)


def _of_model(model: ModelChoice[Any]) -> Iterator[ListedSetting]:
    text = meanings(ModelChoice)
    yield ListedSetting("model.name", text["name"], ModelChoice.name, model.name, tuple(MODELS))
    for name in COMMON:
        yield ListedSetting(f"model.{name}", text[name], getattr(ModelChoice, name), getattr(model, name))
    yield from _of_fields("model", model.options, MODELS[model.name].settings)


def _of_fields(section: str, values: Any, defaults: Any) -> Iterator[ListedSetting]:
    text, hints = meanings(type(values)), get_type_hints(type(values), include_extras=True)
    for name in (field.name for field in fields(values)):
        value, default = getattr(values, name), getattr(defaults, name)
        if is_dataclass(value):
            yield from _of_fields(f"{section}.{name}", value, default)
        else:
            value, default = json.loads(json.dumps([value, default]))
            yield ListedSetting(f"{section}.{name}", text.get(name, ""), default, value, _choices(hints[name]))


def _choices(hint: Any) -> tuple[str, ...]:
    """Return the words that a type allows, if it allows nothing else but None."""
    if get_origin(hint) is Annotated:
        return _choices(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return _choices(kinds[0]) if len(kinds) == 1 else ()
    return tuple(str(word) for word in get_args(hint)) if get_origin(hint) is Literal else ()


def meanings(kind: type) -> Mapping[str, str]:
    """Return the docstrings below the fields of a dataclass and of its base classes, each on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        with suppress(OSError, TypeError):  # no source, as in an interactive session
            [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            found |= _docstrings(definition)
    return found


def _docstrings(definition: ast.stmt) -> Iterator[tuple[str, str]]:
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield ast.unparse(field.target), " ".join(str(after.value.value).split())


def to_toml(rows: list[ListedSetting]) -> str:
    """Return a commented file that `--config` accepts, and that changes nothing as it is."""
    sections: dict[str, list[ListedSetting]] = {}
    for row in rows:
        sections.setdefault(row.name.rpartition(".")[0], []).append(row)
    lines = [HEADING]
    for section, of_section in sections.items():
        lines += ["", f"[{section}]"]
        for row in of_section:
            choices = f" One of: {', '.join(row.choices)}." if row.choices else ""
            comment = f"# {row.meaning}{choices}"
            lines += textwrap.wrap(comment, 118, subsequent_indent="# ", break_on_hyphens=False)
            name = row.name.rpartition(".")[2]
            if row.value is None:
                lines.append(f"# {name} is not set.")
            else:
                lines.append(f"{'' if row.is_changed else '#'}{name} = {_toml(row.value)}")
    return "\n".join([*lines, ""])


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_toml(str(name))} = {_toml(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
