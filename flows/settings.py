"""All settings in one record: the defaults, or what a store was made with, then a TOML file, then `--set`.

Unknown names are refused.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from nmcl.extractors.acoustic import AcousticSettings
from nmcl.extractors.textual import TextualExtractor, TextualSettings
from nmcl.extractors.visual import VisualExtractor, VisualSettings
from nmcl.flows import console
from nmcl.flows.engine_settings import EngineSettings, require_packages
from nmcl.model.comparison import PromotionSettings
from nmcl.model.registry import MODELS
from nmcl.pipeline.addressing import REMOVED, Reference, with_references
from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.crawl.columns import ColumnSettings
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.stages.drift import DriftSettings
from nmcl.pipeline.stages.ingest import IngestSettings
from nmcl.pipeline.stages.splits import SplitSettings
from nmcl.pipeline.storage.shapes import adapter
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import listed

_REMEMBERED = "settings.json"


@dataclass(frozen=True)
class ModelChoice:
    """Which model of the registry is trained, and with which settings of its own."""

    name: Annotated[str, Reference("nmcl")] = "nmcl"
    seed: Annotated[int, Reference(0)] = 0
    options: Any = MODELS["nmcl"].settings
    """The settings dataclass of that model; in files its fields stand right under `[model]`."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. Each section is described where it is used."""

    columns: ColumnSettings = field(default_factory=ColumnSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    media: MediaSettings = field(default_factory=MediaSettings)
    visual: VisualSettings = field(default_factory=VisualSettings)
    acoustic: AcousticSettings = field(default_factory=AcousticSettings)
    textual: TextualSettings = field(default_factory=TextualSettings)
    completion: CompletionSettings = field(default_factory=CompletionSettings)
    model: ModelChoice = field(default_factory=ModelChoice)
    drift: DriftSettings = field(default_factory=DriftSettings)
    promotion: PromotionSettings = field(default_factory=PromotionSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)


Tree = dict[str, Any]
"""Nested settings as TOML and JSON write them."""


def load_tree(config: Path | None = None, assignments: Iterable[str] = ()) -> Tree:
    """What a TOML file names, overridden by `SECTION.NAME=VALUE` assignments; for `from_tree`, `changed` or `of_store`.

    Raises:
        SettingsError: an unreadable file, or text that is no assignment.
    """
    tree = _read_toml(config) if config else {}
    for assignment in assignments:
        tree = merged(tree, _parse(assignment))
    return tree


def changed(remembered: Tree, changes: Tree) -> Settings:
    """Remembered settings with some changes.

    Another model starts from its own defaults, another engine without the cluster and the GPUs of the one before.
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


def of_store(store: Store, changes: Tree) -> Settings:
    """What the store was made with, with some changes; the defaults where there is no store yet.

    What this version does not know of it is left out, aloud.
    """
    remembered = _with_references(_remembered(store))
    if unknown := list(_unknown(remembered)):
        console.note(
            f"{store.url}/{_REMEMBERED} was written by another version of nmcl: this one does not know "
            f"{listed(unknown)}, and goes on without. Choose other settings by --set."
        )
    for name in unknown:
        remembered = _without(remembered, name)
    return checked(changed(usable(store, _REMEMBERED, remembered), changes))


def checked(settings: Settings) -> Settings:
    """The settings, tried: before they are kept, a crawl is ingested, or minutes of work are done.

    Weights that have to be downloaded are not, and of a cluster's machines nothing is known here.

    Raises:
        UserError: a device or packages that this machine does not have, or files that cannot be used.
    """
    require_packages(settings.engine.name)
    if not settings.engine.address:
        VisualExtractor(settings.visual).check()
        TextualExtractor(settings.textual).check()
    return settings


def _remembered(store: Store) -> Tree:
    found: Tree = store.read_json(_REMEMBERED) if store.exists(_REMEMBERED) else {}
    return found


def is_of_machine(section: str, values: Any) -> bool:
    """Whether changes within a section only say where the work is done, and change no vector."""
    return section == "visual" and isinstance(values, Mapping) and set(values) <= {"device"}


def usable(store: Store, file: str, tree: Tree) -> Tree:
    """Settings as a store keeps them, with the references of those that its version did not know.

    Raises:
        StoreError: a value is not allowed; it names the file.
    """
    known = _with_references(tree)
    try:
        from_tree(known)
    except SettingsError as error:
        raise store.damaged(file, str(error)) from error
    return known


def _with_references(tree: Tree) -> Tree:
    """Settings as an earlier version kept them, so that they still mean what they meant."""
    kinds = {f.name: _type_of(f.name) for f in fields(Settings) if f.name != "model"}
    model = tree.get("model")
    if isinstance(model, Mapping) and (entry := MODELS.get(str(model.get("name", "nmcl")))):
        kinds["model"] = type(entry.settings)
        train = model.get("train", {})
        found = {**(train if isinstance(train, Mapping) else {}), **model}
        if changed := [name for name in REMOVED if found.get(name, REMOVED[name]) != REMOVED[name]]:
            console.note_once(f"Models no longer have the settings {listed(changed)}: they are ignored.")
    return {
        name: with_references(kinds[name], values) if name in kinds and isinstance(values, Mapping) else values
        for name, values in tree.items()
    }


def _unknown(tree: Tree) -> Iterator[str]:
    """Names that are no settings, sections included; of a model that there is not, the whole section."""

    def within(tree: Any, known: Any, prefix: str) -> Iterator[str]:
        names = {f.name: getattr(known, f.name) for f in fields(known)}
        for name, value in tree.items():
            if name not in names:
                yield prefix + name
            elif is_dataclass(names[name]) and isinstance(value, Mapping):
                yield from within(value, names[name], f"{prefix}{name}.")

    model = tree.get("model", {})
    yield from within({name: value for name, value in tree.items() if name != "model"}, Settings(), "")
    if not isinstance(name := model.get("name", "nmcl"), str) or name not in MODELS:
        yield "model"
    else:
        own = {key: value for key, value in model.items() if key not in ("name", "seed")}
        yield from within(own, MODELS[name].settings, "model.")


def _without(tree: Tree, name: str) -> Tree:
    section, _, rest = name.partition(".")
    if not rest:
        return {key: value for key, value in tree.items() if key != name}
    return {**tree, section: _without(tree[section], rest)}


def of_champion(store: Store, run: str, changes: Tree) -> Settings:
    """What the champion was made with, with some changes; how to read and to judge a crawl is as the store keeps it."""
    tree = usable(store, f"{run}/{_REMEMBERED}", store.read_json(f"{run}/{_REMEMBERED}"))
    kept = _with_references(_remembered(store))
    judging: Tree = {
        section: kept[section] for section in ("columns", "ingest", "drift", "promotion") if section in kept
    }
    return checked(changed({**tree, **judging}, changes))


def remember(store: Store, settings: Settings) -> None:
    """Keep the settings, so that later commands on the same store need not name them again. Says what changes."""
    tree = json.loads(json.dumps(to_tree(settings)))
    before = _remembered(store)
    if before == tree:
        return
    store.write_json(_REMEMBERED, tree)
    if differences := list(_differences(_without(before, "engine"), tree)):  # who works changes nothing that is made
        console.note(f"{store.url} has other settings from now on: {listed(differences, 20)}.")


def _differences(before: Tree, after: Tree, prefix: str = "") -> Iterator[str]:
    """Such as `visual.key_frames 8 -> 4`, of names that both have: others came with a model or a version of nmcl."""
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name} {json.dumps(old)} -> {json.dumps(new)}"


def json_schema() -> Tree:
    """JSON schema of nested settings, unknown names refused. A model's own settings may be those of any model.

    Without the defaults: forms that are filled in from a schema would send them, and override what a store remembers.
    """
    sections = {f.name: _closed(f.type) for f in fields(Settings) if f.name != "model"}
    common = {"name": {"enum": list(MODELS)}, "seed": {"type": "integer"}}
    models = [_closed(type(entry.settings)) for entry in MODELS.values()]
    for model in models:
        model["properties"] |= common
    distinct = [model for i, model in enumerate(models) if model not in models[:i]]
    return {"type": "object", "properties": {**sections, "model": {"anyOf": distinct}}, "additionalProperties": False}


def _closed(kind: Any) -> Tree:
    """JSON schema of a dataclass, its sections written out in place."""
    schema = TypeAdapter(kind).json_schema()
    definitions = schema.pop("$defs", {})

    def written_out(node: Any) -> Any:
        if isinstance(node, list):
            return [written_out(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return written_out(definitions[node["$ref"].rsplit("/", 1)[-1]])
        kept = {name: written_out(value) for name, value in node.items() if name not in ("default", "required")}
        return kept | {"additionalProperties": False} if "properties" in node else kept

    closed: Tree = written_out(schema)
    return closed


def to_tree(settings: Settings) -> Tree:
    """All settings as nested JSON values; `from_tree` gives them back."""
    tree = asdict(settings)
    tree["model"] = {"name": settings.model.name, "seed": settings.model.seed, **tree["model"]["options"]}
    return tree


def from_tree(tree: Tree) -> Settings:
    """Settings from nested values; what is not named keeps its default.

    Raises:
        SettingsError: an unknown name, or a value that is not allowed.
    """
    if not isinstance(tree.get("model", {}), Mapping):
        raise SettingsError(f"model is a section; expected names under it, found {tree['model']!r}.")
    model = dict(tree.get("model", {}))
    sections = {name: value for name, value in tree.items() if name != "model"}
    _refuse_unknown(sections, Settings(), "")
    kept = merged({name: asdict(getattr(Settings(), name)) for name in sections}, sections)
    name, seed = model.pop("name", "nmcl"), model.pop("seed", 0)
    if not isinstance(name, str) or name not in MODELS:
        raise SettingsError(f"model.name is {name!r}; expected one of {', '.join(MODELS)}.")
    defaults = MODELS[name].settings
    _refuse_unknown(model, defaults, "model.")
    options = _validated(type(defaults), merged(asdict(defaults), model), "model.")
    chosen = {"name": name, "seed": _validated(int, seed, "model.seed"), "options": options}
    values = {name: _validated(_type_of(name), value, f"{name}.") for name, value in kept.items()}
    settings = Settings(**values, model=ModelChoice(**chosen))
    settings.engine.check()
    return settings


def _type_of(section: str) -> type:
    return type(getattr(Settings(), section))


def _read_toml(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from error


def _parse(assignment: str) -> Tree:
    """`a.b=value` as {"a": {"b": value}}; the value as TOML reads it, else as text."""
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
    """`base` with the values of `over`, section by section."""
    tree = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = merged(tree[key], value) if both else value
    return tree


def _refuse_unknown(tree: Any, known: Any, prefix: str) -> None:
    """Every name in `tree` must be a field of the dataclass `known`, section by section."""
    if not isinstance(tree, Mapping):
        raise SettingsError(f"{prefix.rstrip('.')} is a section; expected names under it, found {tree!r}.")
    names = {f.name for f in fields(known)}
    for name, value in tree.items():
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {prefix}{close[0]}?" if close else ""
            raise SettingsError(f"There is no setting {prefix}{name}.{hint} Known here: {', '.join(sorted(names))}.")
        if is_dataclass(getattr(known, name)):
            _refuse_unknown(value, getattr(known, name), f"{prefix}{name}.")


def _validated(kind: type, value: Any, name: str) -> Any:
    try:
        return adapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = name + ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{where} is {first['input']!r}: {first['msg']}.") from error
