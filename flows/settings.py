"""All settings in one record: the defaults, then a TOML file, then `--set`. Unknown names are rejected."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import reduce
from typing import Annotated, Any, Generic, TypeVar

from pydantic import ConfigDict, ValidationError, with_config
from pydantic_core import ErrorDetails

from nmcl.extractors.ocr import OcrSettings
from nmcl.extractors.thumbnails import ThumbnailSettings
from nmcl.flows import feature_settings
from nmcl.flows.engine_settings import EngineSettings
from nmcl.flows.feature_settings import FeatureChoice, default_sets, feature_sets, with_feature_sets
from nmcl.flows.prediction_settings import PredictionSettings
from nmcl.flows.settings_tree import Tree, merged, require_plain
from nmcl.model.comparison import PromotionSettings
from nmcl.model.registry import MODELS
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.crawl.subtitles import SubtitleSettings
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.stages.drift import DriftSettings
from nmcl.pipeline.stages.ingest import IngestSettings
from nmcl.pipeline.stages.splits import SplitSettings
from nmcl.pipeline.storage.shapes import adapter
from nmcl.pipeline.text import hint

Options = TypeVar("Options")
"""The settings dataclass of a model."""


@dataclass(frozen=True)
class ModelChoice(Generic[Options]):
    """The model to train, by its name in the registry, and its settings."""

    name: Annotated[str, Reference("nmcl_stacked")] = "nmcl_stacked"
    """Name of the model."""
    seed: Annotated[int, Reference(0)] = 0
    """Seed of initialisation, batches and dropout."""
    self_training: Annotated[bool, Reference(False)] = False
    """Whether a first model predicts the unlabelled videos, and the more probable half of each predicted venue joins
    the training videos."""
    options: Options = field(default_factory=lambda: MODELS["nmcl_stacked"].settings)
    """Settings of the model; in files they are directly under `[model]`."""


COMMON = ("seed", "self_training")
"""Settings of every model, which another model keeps."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Settings(Generic[Options]):
    """All settings. Each section is a dataclass next to the code that uses it."""

    columns: ColumnSettings = field(default_factory=ColumnSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    media: MediaSettings = field(default_factory=MediaSettings)
    subtitles: SubtitleSettings = field(default_factory=SubtitleSettings)
    ocr: OcrSettings = field(default_factory=OcrSettings)
    thumbnails: ThumbnailSettings = field(default_factory=ThumbnailSettings)
    features: Mapping[str, FeatureChoice[Any]] = field(default_factory=default_sets)
    """Feature sets by name."""
    completion: CompletionSettings = field(default_factory=CompletionSettings)
    model: ModelChoice[Options] = field(default_factory=ModelChoice)
    drift: DriftSettings = field(default_factory=DriftSettings)
    promotion: PromotionSettings = field(default_factory=PromotionSettings)
    predictions: PredictionSettings = field(default_factory=PredictionSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)

    @property
    def random_sets(self) -> list[str]:
        """Feature sets made by a network with random weights."""
        return [name for name, s in self.features.items() if getattr(s.options, "weights", "") == "random"]

    def only(self, names: Collection[str]) -> "Settings[Options]":
        """Return these settings with some of the feature sets, in their order; with all if none is named.

        Raises:
            SettingsError: If there is no such set.
        """
        feature_settings.require_known(names, self.features)
        chosen = {name: s for name, s in self.features.items() if name in names}
        return replace(self, features=chosen or self.features)


def changed(remembered: Tree, changes: Tree) -> Settings:
    """Return stored settings with some changes.

    Another model or extractor starts from its own defaults. Another engine starts without the previous cluster address
    and GPUs.
    """
    remembered, changes = with_feature_sets(remembered), with_feature_sets(changes)
    model, engine = remembered.get("model", {}), remembered.get("engine", {})
    if _renames(changes, "model", model):
        model = {key: model[key] for key in COMMON if key in model}
    if _renames(changes, "engine", engine):
        engine = {key: value for key, value in engine.items() if key not in ("address", "gpus")}
    features = feature_settings.kept(_section(remembered, "features"), _section(changes, "features"))
    return from_tree(merged({**remembered, "model": model, "engine": engine, "features": features}, changes))


def _renames(changes: Tree, section: str, remembered: Tree) -> bool:
    wanted, name = changes.get(section), remembered.get("name")
    return isinstance(wanted, Mapping) and wanted.get("name", name) != name


def is_of_machine(section: str, values: Any) -> bool:
    """Return whether changes within a section only affect where the work is done, and no vector."""
    is_features = section == "features" and isinstance(values, Mapping)
    return is_features and all(isinstance(own, Mapping) and set(own) <= {"device"} for own in values.values())


def to_tree(settings: Settings) -> Tree:
    """Return all settings as nested JSON values. `from_tree` is the inverse."""
    tree = asdict(settings)
    tree["model"] |= tree["model"].pop("options")
    return tree | {"features": feature_settings.to_tree(settings.features)}


def from_tree(tree: Tree) -> Settings:
    """Return settings from nested values; those that are not named keep their defaults.

    Raises:
        SettingsError: If a name is unknown, or a value is not allowed.
    """
    require_plain(tree)
    tree = with_feature_sets(tree)
    defaults = defaults_for(tree)
    sets = feature_sets(_section(tree, "features"))
    try:
        settings = _validated({**merged(to_tree(defaults), tree), "features": sets}, type(defaults.model.options))
    except ValidationError as error:
        raise SettingsError(_message(error.errors()[0], defaults)) from error
    settings.engine.check()
    return settings


def defaults_for(tree: Tree) -> Settings:
    """Return the default settings with the model that nested settings name. Raises SettingsError if there is none."""
    model = tree.get("model")
    name = model.get("name", ModelChoice.name) if isinstance(model, Mapping) else ModelChoice.name
    if not isinstance(name, str) or name not in MODELS:
        meant = hint(name, MODELS) if isinstance(name, str) else ""
        raise SettingsError(f"model.name is {name!r}; expected one of {', '.join(MODELS)}.{meant}")
    return Settings(model=ModelChoice(name, options=MODELS[name].settings))


def unknown_paths(tree: Tree) -> list[tuple[str, ...]]:
    """Return the paths of unknown settings; for an unknown model or extractor, also the whole section."""
    if isinstance(sets := tree.get("features"), Mapping):
        of_sets = [("features", *path) for path in feature_settings.unknown_paths(sets)]
        return [*of_sets, *unknown_paths({name: values for name, values in tree.items() if name != "features"})]
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
        common = {name: model[name] for name in ("name", *COMMON) if name in model}
        own = {name: value for name, value in model.items() if name not in common}
        tree = {**tree, "model": {**common, "options": own}}
    settings: Settings = adapter(Settings[options]).validate_python(tree)  # type: ignore[valid-type]
    return settings


def _section(tree: Tree, name: str) -> Mapping[str, Any]:
    section = tree.get(name, {})
    if not isinstance(section, Mapping):
        raise SettingsError(f"{name} is a section; expected names under it, found {section!r}.")
    return section


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
    meant = f" Did you mean {'.'.join([*path[:-1], *close])}?" if close else ""
    return f"There is no setting {name}.{meant} Known names: {', '.join(known)}."


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
    of_choice = schemas[0]["properties"]["model"]["properties"]
    common = {"name": {"enum": list(MODELS)}, **{name: of_choice[name] for name in COMMON}}
    of_any = {"anyOf": [model | {"properties": model["properties"] | common} for model in models]}
    of_sets = feature_settings.json_schema(_inlined)
    return {**schemas[0], "properties": schemas[0]["properties"] | {"model": of_any} | of_sets}


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
