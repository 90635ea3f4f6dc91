"""Settings of feature sets: a name, its extractor, and the extractor's own settings."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, ValidationError, with_config
from pydantic_core import ErrorDetails

from nmcl.extractors import plugins
from nmcl.extractors.plugins import NONE
from nmcl.extractors.registry import EXTRACTORS, Entry
from nmcl.extractors.wordllama import is_installed
from nmcl.flows.settings_tree import Tree, merged
from nmcl.pipeline.addressing import with_references
from nmcl.pipeline.errors import ExtractorError, SettingsError, UserError
from nmcl.pipeline.extractor import Extractor
from nmcl.pipeline.storage.shapes import adapter
from nmcl.pipeline.storage.tables import term_names
from nmcl.pipeline.text import hint

PAPER = {"visual": "resnet50", "acoustic": "sda", "textual": "paragraph_vectors"}
"""Extractors of the paper's feature sets."""
WORDS, NGRAMS = "words", "ngrams"
"""Default feature sets that the paper does not have. Stores of earlier versions do not have them either."""
LATER = {WORDS: "wordllama", NGRAMS: "ngrams"}
"""Extractors of these."""
DEFAULTS = {**PAPER, **LATER}
"""Extractors of the default feature sets; docs/extractors.md has the measurements."""
PRESETS = {"paper": PAPER}
"""Feature sets that one word names: `features = "paper"`."""
RESERVED = ("video_id", "crawl", "path", "sha256", "split", "label", "description", "completion", "files", "labels")
"""Names of columns, states and drift figures beside those of feature sets."""

Options = TypeVar("Options")
"""The settings dataclass of an extractor."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class FeatureChoice(Generic[Options]):
    """One feature set: the extractor that makes it, and that extractor's settings."""

    extractor: str
    """Name of the extractor, see `nmcl features`; `none` leaves the feature set out."""
    options: Options
    """Settings of the extractor; in files they are directly under `[features.NAME]`."""

    @property
    def entry(self) -> Entry:
        """What the registry, a package or the project says of the extractor."""
        return plugins.find(self.extractor)

    def build(self) -> Extractor:
        """Return the extractor with these settings; it loads its weights on first use."""
        return self.entry.build(self.options)


def default_names() -> list[str]:
    """Return the names of the default feature sets, without `words` if its package is not installed."""
    return [name for name in DEFAULTS if name != WORDS or is_installed()]


def default_sets() -> dict[str, FeatureChoice[Any]]:
    """Return the default feature sets whose packages are installed."""
    return {name: FeatureChoice(DEFAULTS[name], EXTRACTORS[DEFAULTS[name]].settings) for name in default_names()}


def feature_sets(tree: Mapping[str, Any]) -> dict[str, FeatureChoice[Any]]:
    """Return the feature sets of a tree of `features`; settings that are not named keep their defaults.

    Raises:
        UserError: An unknown extractor or setting, a value that is not allowed, or no feature set is left.
    """
    found: dict[str, FeatureChoice[Any]] = {}
    for name, values in {**{name: {} for name in default_names()}, **tree}.items():
        extractor = extractor_of(name, values)
        if extractor == NONE:
            continue
        entry = plugins.find(extractor)
        try:
            found[name] = _validated(extractor, merged(asdict(entry.settings), _own(values)))
        except ValidationError as error:
            raise SettingsError(_message(error.errors()[0], name, entry)) from error
    for name in found:
        if clash := found.keys() & {*term_names(name)}:
            raise SettingsError(
                f"{clash.pop()!r} cannot name a feature set beside {name!r}: it may be the column of its terms. Choose "
                "another name."
            )
    if not found:
        raise UserError("No feature set is left; name at least one, such as [features.textual].")
    return found


def _validated(extractor: str, options: Tree) -> FeatureChoice[Any]:
    """Return a feature set. Raises ValidationError with locations that begin with `options`."""
    kind = type(plugins.find(extractor).settings)
    of_kind = adapter(FeatureChoice[kind])  # type: ignore[valid-type]
    found: FeatureChoice[Any] = of_kind.validate_python({"extractor": extractor, "options": options})
    return found


def extractor_of(name: str, values: Any) -> str:
    """Return the extractor that the settings of one feature set name, or its default.

    Raises:
        SettingsError: A name is not allowed, or a set without a default names no extractor.
        ExtractorError: There is no such extractor, or it may not or cannot be imported.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"features.{name} is a section; expected names under it, found {values!r}.")
    if not re.fullmatch("[a-z][a-z0-9_]{0,63}", name) or name in RESERVED or name.endswith("_observed"):
        raise SettingsError(
            f"{name[:80]!r} cannot name a feature set: use at most 64 lower-case letters, digits and underscores, no "
            f"_observed at the end, and none of {', '.join(RESERVED)}."
        )
    extractor, _ = _parted(values.get("extractor", DEFAULTS.get(name)))
    if extractor is None and "extractor" in values:  # `--set features.visual.extractor=none`
        return NONE
    known = [*EXTRACTORS, *plugins.installed()]
    found = f"features.{name}.extractor is {extractor!r}; expected one of {', '.join(known)}."
    if not isinstance(extractor, str):
        raise SettingsError(found)
    try:
        if extractor != NONE:
            plugins.find(extractor, name)
    except KeyError:
        raise ExtractorError(
            f"{found}{hint(extractor, known)} If a package brings it, install that; features.{name}.extractor={NONE} "
            "leaves the set out."
        ) from None
    return extractor


def extractors_of_project(tree: Tree) -> list[str]:
    """Return the extractors that nested settings name as `module:Class`."""
    sets = tree.get("features")
    named = [s.get("extractor") for s in sets.values() if isinstance(s, Mapping)] if isinstance(sets, Mapping) else []
    return [str(name) for name in named if plugins.is_of_project(_parted(name)[0])]


def without_replaced(remembered: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Return remembered sets; of those whose extractor is not built in and is replaced by changes, only the new one.

    So a set can be changed or left out after its package was removed.
    """

    def is_replaced(before: Any, after: Any) -> bool:
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)) or "extractor" not in after:
            return False
        return before.get("extractor", NONE) not in (*EXTRACTORS, NONE, after["extractor"])

    return {
        name: {"extractor": changes[name]["extractor"]} if is_replaced(values, changes.get(name)) else values
        for name, values in remembered.items()
    }


def _own(values: Mapping[str, Any]) -> Tree:
    """Return the extractor's own settings of one feature set."""
    _, model = _parted(values.get("extractor"))
    return {**{key: value for key, value in values.items() if key != "extractor"}, **model}


def _parted(extractor: Any) -> tuple[Any, Tree]:
    """Return the extractor of the short form `EXTRACTOR:MODEL`, and the setting `model`."""
    name, colon, model = extractor.partition(":") if isinstance(extractor, str) else ("", "", "")
    if colon and name in EXTRACTORS and hasattr(EXTRACTORS[name].settings, "model"):
        return name, {"model": model}
    return extractor, {}


def to_tree(sets: Mapping[str, FeatureChoice[Any]]) -> Tree:
    """Return feature sets as nested JSON values; default sets that are left out are named as such."""
    left_out = {name: {"extractor": NONE} for name in DEFAULTS if name not in sets}
    return {name: {"extractor": s.extractor, **asdict(s.options)} for name, s in sets.items()} | left_out


def require_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise SettingsError if there is no feature set of one of the names."""
    known = list(known)
    for name in names:
        if name not in known:
            raise SettingsError(
                f"There is no feature set {name!r}.{hint(name, known)} Expected some of {', '.join(known)}."
            )


def unknown_paths(tree: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the paths of unknown settings; for an unknown extractor, the whole set."""
    found: list[tuple[str, ...]] = []
    for name, values in tree.items():
        try:
            extractor = extractor_of(name, values)
            if extractor != NONE:
                _validated(extractor, _own(values))
        except SettingsError:
            found.append((name,))
        except ValidationError as error:
            unknown = (e for e in error.errors() if e["type"] == "unexpected_keyword_argument")
            found += [(name, *map(str, e["loc"][1:])) for e in unknown]
    return found


def kept(remembered: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Return remembered sets without the settings of extractors that changes replace by one of another kind."""
    return {
        name: values if _has_same_settings(name, values, changes.get(name, {})) else {"extractor": values["extractor"]}
        for name, values in remembered.items()
    }


def _has_same_settings(name: str, values: Any, changes: Any) -> bool:
    if not isinstance(changes, Mapping) or "extractor" not in changes:
        return True
    before, after = (extractor_of(name, tree) for tree in (values, changes))
    if NONE in (before, after):
        return before == after
    return type(plugins.find(before).settings) is type(plugins.find(after).settings)


def with_all_references(tree: Mapping[str, Any]) -> Tree:
    """Return stored sets with reference values for settings that the storing version did not know."""
    found = {}
    for name, values in tree.items():
        extractor = extractor_of(name, values)
        is_made = extractor != NONE
        found[name] = with_references(type(plugins.find(extractor).settings), values) if is_made else dict(values)
    return found


def with_feature_sets(tree: Tree) -> Tree:
    """Return settings of earlier versions, which had the sections visual, acoustic and textual, in today's form."""
    is_preset = isinstance(tree.get("features"), str)
    tree = with_preset(tree)
    old = {name: tree[name] for name in PAPER if name in tree}
    if not old:
        return tree
    for name, values in old.items():
        if isinstance(values, Mapping) and "backbone" in values:
            old[name] = {"extractor": values["backbone"], **{k: v for k, v in values.items() if k != "backbone"}}
    rest = {section: values for section, values in tree.items() if section not in old}
    new = rest.get("features", {})
    if isinstance(new, Mapping):
        new = merged(new, old) if is_preset else merged(old, new)
    return {**rest, "features": new}


def with_preset(tree: Tree) -> Tree:
    """Return settings in which a preset, such as `features = "paper"`, is replaced by its feature sets.

    Default sets that it does not have are left out; other sets of a store stay.

    Raises:
        SettingsError: If there is no such preset.
    """
    preset = tree.get("features")
    if not isinstance(preset, str):
        return tree
    if preset not in PRESETS:
        raise SettingsError(
            f"features is {preset!r}; expected {' or '.join(map(repr, PRESETS))}, or names under it, such as "
            "features.visual.extractor=resnet101."
        )
    return {**tree, "features": {name: {"extractor": PRESETS[preset].get(name, NONE)} for name in DEFAULTS}}


def without_later_defaults(tree: Tree) -> Tree:
    """Return stored settings, where those of versions without some default sets say that they leave these out."""
    sets = tree.get("features", {})
    if not tree or not isinstance(sets, Mapping) or LATER.keys() <= sets.keys():
        return tree
    return {**tree, "features": {**sets, **{name: {"extractor": NONE} for name in LATER if name not in sets}}}


def json_schema(inlined: Callable[[Tree], Tree]) -> Tree:
    """Return the properties of settings that name feature sets, with the sections of earlier versions.

    Args:
        inlined: Replaces the references in a JSON schema by their definitions.
    """
    kinds: dict[type, list[str]] = {}
    for name, entry in EXTRACTORS.items():
        kinds.setdefault(type(entry.settings), []).append(name)

    def with_choice(kind: type, key: str) -> Tree:
        schema = inlined(adapter(FeatureChoice[kind]).json_schema())["properties"]["options"]  # type: ignore[valid-type]
        choice: Tree = {"enum": [*kinds[kind], NONE]}
        if "model" in schema["properties"]:
            choice = {"anyOf": [choice, {"type": "string", "pattern": f"^({'|'.join(kinds[kind])}):"}]}
        return {**schema, "properties": schema["properties"] | {key: choice}}

    of_any = {"anyOf": [with_choice(kind, "extractor") for kind in kinds]}
    if names := plugins.installed():  # not imported for this; their settings are checked by the run
        of_plugin = {"type": "object", "properties": {"extractor": {"enum": names}}, "required": ["extractor"]}
        of_any["anyOf"].append(of_plugin)
    earlier = {name: with_choice(type(EXTRACTORS[extractor].settings), "backbone") for name, extractor in PAPER.items()}
    of_sets = {"anyOf": [{"enum": list(PRESETS)}, {"type": "object", "additionalProperties": of_any}]}
    return {"features": of_sets, **earlier}


def _message(error: ErrorDetails, name: str, entry: Entry) -> str:
    """Return what is wrong, and the setting that was probably meant."""
    above = ["features", name, *map(str, error["loc"][1:-1])]
    path = ".".join([*above, str(error["loc"][-1])])
    if error["type"] != "unexpected_keyword_argument":
        return f"{path} is {error['input']!r}: {error['msg']}."
    section: Any = asdict(entry.settings)
    for key in error["loc"][1:-1]:
        section = section[key]
    known = sorted([*section, *(["extractor"] if len(above) == 2 else [])])
    close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
    meant = f" Did you mean {'.'.join([*above, *close])}?" if close else ""
    return f"There is no setting {path}.{meant} Known here: {', '.join(known)}."
