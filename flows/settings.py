"""All settings in one record: the defaults, then a TOML file, then `--set`. Unknown names are rejected."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ConfigDict, ValidationError, with_config
from pydantic_core import ErrorDetails

from nmcl.extractors.acoustic import AcousticSettings
from nmcl.extractors.textual import TextualSettings
from nmcl.extractors.visual import VisualSettings
from nmcl.flows.engine_settings import EngineSettings
from nmcl.model.comparison import PromotionSettings
from nmcl.model.registry import MODELS
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.stages.drift import DriftSettings
from nmcl.pipeline.stages.ingest import IngestSettings
from nmcl.pipeline.stages.splits import SplitSettings
from nmcl.pipeline.storage.shapes import adapter

Options = TypeVar("Options")
"""The settings dataclass of a model."""


@dataclass(frozen=True)
class ModelChoice(Generic[Options]):
    """The model to train, by its name in the registry, and its settings."""

    name: Annotated[str, Reference("nmcl_stacked")] = "nmcl_stacked"
    seed: Annotated[int, Reference(0)] = 0
    options: Options = field(default_factory=lambda: MODELS["nmcl_stacked"].settings)
    """Settings of the model; in files they are directly under `[model]`."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Settings(Generic[Options]):
    """All settings. Each section is a dataclass next to the code that uses it."""

    columns: ColumnSettings = field(default_factory=ColumnSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    media: MediaSettings = field(default_factory=MediaSettings)
    visual: VisualSettings = field(default_factory=VisualSettings)
    acoustic: AcousticSettings = field(default_factory=AcousticSettings)
    textual: TextualSettings = field(default_factory=TextualSettings)
    completion: CompletionSettings = field(default_factory=CompletionSettings)
    model: ModelChoice[Options] = field(default_factory=ModelChoice)
    drift: DriftSettings = field(default_factory=DriftSettings)
    promotion: PromotionSettings = field(default_factory=PromotionSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)


Tree = dict[str, Any]
"""Nested settings as TOML and JSON values."""


def load_tree(config: Path | None = None, assignments: Iterable[str] = ()) -> Tree:
    """Return the settings of a TOML file, overridden by `SECTION.NAME=VALUE` assignments; for `from_tree` or `changed`.

    Raises:
        SettingsError: If the file cannot be read, or a text is not an assignment.
    """
    tree = _read_toml(config) if config else {}
    for assignment in assignments:
        tree = merged(tree, _parse(assignment))
    return tree


def changed(remembered: Tree, changes: Tree) -> Settings:
    """Return stored settings with some changes.

    Another model starts from its own defaults. Another engine starts without the previous cluster address and GPUs.
    """
    model, engine = remembered.get("model", {}), remembered.get("engine", {})
    if _renames(changes, "model", model):
        model = {key: model[key] for key in ("seed",) if key in model}
    if _renames(changes, "engine", engine):
        engine = {key: value for key, value in engine.items() if key not in ("address", "gpus")}
    return from_tree(merged({**remembered, "model": model, "engine": engine}, changes))


def _renames(changes: Tree, section: str, remembered: Tree) -> bool:
    wanted, name = changes.get(section), remembered.get("name")
    return isinstance(wanted, Mapping) and wanted.get("name", name) != name


def is_of_machine(section: str, values: Any) -> bool:
    """Return whether changes within a section only affect where the work is done, and no vector."""
    return section == "visual" and isinstance(values, Mapping) and set(values) <= {"device"}


def to_tree(settings: Settings) -> Tree:
    """Return all settings as nested JSON values. `from_tree` is the inverse."""
    tree = asdict(settings)
    tree["model"] |= tree["model"].pop("options")
    return tree


def from_tree(tree: Tree) -> Settings:
    """Return settings from nested values; those that are not named keep their defaults.

    Raises:
        SettingsError: If a name is unknown, or a value is not allowed.
    """
    defaults = defaults_for(tree)
    try:
        settings = _validated(merged(to_tree(defaults), tree), type(defaults.model.options))
    except ValidationError as error:
        raise SettingsError(_message(error.errors()[0], defaults)) from error
    settings.engine.check()
    return settings


def defaults_for(tree: Tree) -> Settings:
    """Return the default settings with the model that nested settings name. Raises SettingsError if there is none."""
    model = tree.get("model")
    name = model.get("name", ModelChoice.name) if isinstance(model, Mapping) else ModelChoice.name
    if not isinstance(name, str) or name not in MODELS:
        raise SettingsError(f"model.name is {name!r}; expected one of {', '.join(MODELS)}.")
    return Settings(model=ModelChoice(name, options=MODELS[name].settings))


def unknown_paths(tree: Tree) -> list[tuple[str, ...]]:
    """Return the paths of unknown settings; for an unknown model, also the whole model section."""
    try:
        defaults = defaults_for(tree)
    except SettingsError:
        return [("model",), *unknown_paths({**tree, "model": {}})]
    try:
        _validated(tree, type(defaults.model.options))
    except ValidationError as error:
        unknown = [_path(e["loc"]) for e in error.errors() if e["type"] == "unexpected_keyword_argument"]
        return sorted(unknown, key=len)
    except SettingsError:  # a section contradicts itself
        pass
    return []


def _validated(tree: Tree, options: type) -> Settings:
    """Return settings with a model whose settings are of the type `options`. Raises ValidationError."""
    if isinstance(model := tree.get("model", {}), Mapping):
        common = {name: model[name] for name in ("name", "seed") if name in model}
        own = {name: value for name, value in model.items() if name not in common}
        tree = {**tree, "model": {**common, "options": own}}
    settings: Settings = adapter(Settings[options]).validate_python(tree)  # type: ignore[valid-type]
    return settings


def _message(error: ErrorDetails, defaults: Settings) -> str:
    """Return the error message, with the name that was probably meant."""
    path = _path(error["loc"])
    name = ".".join(path)
    if error["type"] == "dataclass_type":
        return f"{name} is a section; expected names under it, found {error['input']!r}."
    if error["type"] != "unexpected_keyword_argument":
        return f"{name} is {error['input']!r}: {error['msg']}."
    section: Any = reduce(getattr, map(str, error["loc"][:-1]), defaults)
    known = sorted(f.name for f in fields(section))
    close = difflib.get_close_matches(path[-1], known, n=1)
    hint = f" Did you mean {'.'.join([*path[:-1], *close])}?" if close else ""
    return f"There is no setting {name}.{hint} Known names: {', '.join(known)}."


def _path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the path of a setting in files: those of a model are directly under `model`."""
    return tuple(map(str, loc[:1] + loc[2:] if loc[:2] == ("model", "options") else loc))


def json_schema() -> Tree:
    """Return the JSON schema of nested settings, which rejects unknown names and accepts settings of any model.

    It has no defaults: forms filled in from a schema would send them, and override the settings of a store.
    """
    kinds = dict.fromkeys(type(method.settings) for method in MODELS.values())
    schemas = [_inlined(adapter(Settings[kind]).json_schema()) for kind in kinds]  # type: ignore[valid-type]
    models = [schema["properties"]["model"]["properties"]["options"] for schema in schemas]
    common = {"name": {"enum": list(MODELS)}, "seed": {"type": "integer"}}
    of_any = {"anyOf": [model | {"properties": model["properties"] | common} for model in models]}
    return {**schemas[0], "properties": schemas[0]["properties"] | {"model": of_any}}


def _inlined(schema: Tree) -> Tree:
    """Return a JSON schema with all references replaced by their definitions, and without defaults."""
    definitions = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, list):
            return [inlined(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inlined(definitions[node["$ref"].rsplit("/", 1)[-1]])
        return {name: inlined(value) for name, value in node.items() if name not in ("default", "required")}

    found: Tree = inlined(schema)
    return found


def _read_toml(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from error


def _parse(assignment: str) -> Tree:
    """Parse `a.b=value` to {"a": {"b": value}}. The value is parsed as TOML, else it is text."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise SettingsError(f"--set {assignment}: expected SECTION.NAME=VALUE, such as visual.backbone=resnet101.")
    tree: Any = _value(text.strip())
    for key in reversed(name.strip().split(".")):
        tree = {key: tree}
    return tree  # type: ignore[no-any-return]


def _value(text: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Return `base` with the values of `over`, merged section by section."""
    tree = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = merged(tree[key], value) if both else value
    return tree
