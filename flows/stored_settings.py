"""The settings of a store: read, changed and stored, with notes about differences."""

import json
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem

from nmcl.extractors import plugins
from nmcl.extractors.ocr import OcrReader
from nmcl.flows import console
from nmcl.flows.engine_settings import require_packages
from nmcl.flows.feature_settings import (
    DEFAULTS,
    PAPER,
    WORDS,
    default_names,
    with_all_references,
    with_feature_sets,
    without_later_defaults,
    without_replaced,
)
from nmcl.flows.settings import ModelChoice, Settings, changed, defaults_for, from_tree, to_tree, unknown_paths
from nmcl.flows.settings_tree import Tree
from nmcl.model.registry import with_current_names
from nmcl.pipeline.addressing import REMOVED, with_references
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.extractor import Checks
from nmcl.pipeline.needs import OCR, Text
from nmcl.pipeline.storage.runs import SETTINGS, Run
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import listed

_JUDGING = ("columns", "ingest", "drift", "promotion")
"""Sections that decide how a crawl is read and evaluated."""


def of_store(store: Store, changes: Tree) -> Settings:
    """Return the settings of a store with some changes, checked; the defaults if there is no store yet.

    Names that this version does not know are removed, with a note.
    """
    return checked(unchecked(store, changes))


def unchecked(store: Store, changes: Tree) -> Settings:
    """Return the settings of a store with some changes, as `of_store`, whether or not they can be used here."""
    remembered = _in_todays_form(_remembered(store))
    changes = in_current_form(changes, remembered)
    sets = changes.get("features")
    named = sets if isinstance(sets, Mapping) else {}
    if isinstance(kept := remembered.get("features"), Mapping):
        remembered["features"] = without_replaced(kept, named)
    if unknown := unknown_paths(remembered):
        console.note(
            f"{store.url}/{SETTINGS} was written by another version of nmcl. This version does not know "
            f"{listed('.'.join(path) for path in unknown)}, and ignores them. Change settings with --set."
        )
    for *sections, last in unknown:
        del reduce(getitem, sections, remembered)[last]
    if not remembered and WORDS not in {*default_names(), *named}:
        console.note_once(
            f"The feature set {WORDS} is left out, because the package of its extractor {DEFAULTS[WORDS]} is not "
            f"installed: pip install 'nmcl[wordllama]', and --set features.{WORDS}.extractor={DEFAULTS[WORDS]} adds it."
        )
    return changed(usable(store, SETTINGS, remembered), changes)


def checked(settings: Settings) -> Settings:
    """Check that settings can be used, before they are stored or any work starts. Returns them unchanged.

    Weights that must be downloaded are not checked, nor are the machines of a cluster.

    Raises:
        UserError: If a device, package or file that the settings need is missing or cannot be used.
    """
    require_packages(settings.engine.name)
    shadowed = plugins.shadowed()
    for name in sorted({chosen.extractor for chosen in settings.features.values()} & shadowed.keys()):
        console.note_once(f"{shadowed[name]} also brings an extractor {name}: the built-in one is used.")
    if not settings.engine.address:
        for extractor in (chosen.build() for chosen in settings.features.values()):
            if isinstance(extractor, Checks):
                extractor.check()
            if extractor.need == Text(OCR):
                OcrReader(settings.ocr).check()
    return settings


def _remembered(store: Store) -> Tree:
    found: Tree = store.read_json(SETTINGS) if store.exists(SETTINGS) else {}
    return found


def usable(store: Store, file: str, tree: Tree) -> Tree:
    """Return stored settings, with reference values for those that the storing version did not know.

    Raises:
        StoreError: If a value is not allowed. The message names the file.
    """
    try:
        known = _with_references(_in_todays_form(tree))
        from_tree(known)
    except SettingsError as error:
        raise store.damaged(file, str(error)) from error
    return known


def _in_todays_form(tree: Tree) -> Tree:
    """Return stored settings of any version under today's names, without default feature sets that came later."""
    return without_later_defaults(with_feature_sets(_with_current_names(_without_removed(tree))))


def _without_removed(tree: Tree) -> Tree:
    """Return settings without those that models no longer have. Prints a note if one of them had an effect."""
    model = tree.get("model")
    if not isinstance(model, Mapping):
        return tree
    train = model.get("train", {})
    found = {**train, **model} if isinstance(train, Mapping) else model
    if ignored := [name for name, unset in REMOVED.items() if found.get(name, unset) != unset]:
        console.note_once(f"Models no longer have the settings {listed(ignored)}: they are ignored.")
    kept = {name: value for name, value in model.items() if name not in REMOVED}
    if isinstance(train, Mapping) and "train" in kept:
        kept["train"] = {name: value for name, value in train.items() if name not in REMOVED}
    return {**tree, "model": kept}


def in_current_form(changes: Tree, over: Tree | None = None) -> Tree:
    """Return a user's changes under today's names, with a note about those of earlier versions.

    Args:
        over: settings that they change.
    """
    note_earlier_names(changes)
    return _with_current_names(with_feature_sets(changes), over)


def note_earlier_names(*changes: Tree) -> None:
    """Print a note if a user's changes name feature sets as earlier versions did."""
    if old := dict.fromkeys(section for tree in changes for section in tree if section in PAPER):
        console.note_once(
            f"Settings of {listed(old)} are now under features, such as features.visual.extractor instead of "
            "visual.backbone, and features.acoustic.seed instead of acoustic.seed: they are taken as such."
        )


def _with_current_names(tree: Tree, over: Tree | None = None) -> Tree:
    """Return settings with the current names of models and settings. Prints a note if the model's name changes.

    Args:
        over: Settings that `tree` changes.
    """
    model, kept = tree.get("model"), (over or {}).get("model")
    if not isinstance(model, Mapping):
        return tree
    default = kept.get("name", ModelChoice.name) if isinstance(kept, Mapping) else ModelChoice.name
    name = model.get("name", default)
    found = with_current_names({**model, "name": name})
    if found["name"] != name:
        console.note_once(
            f"The model {name} with peers={json.dumps(model['peers'])} of earlier versions is now called "
            f"{found['name']}: nmcl is the network alone, nmcl_stacked is the network stacked with other models."
        )
    elif "name" not in model:
        del found["name"]
    return {**tree, "model": found}


def _with_references(tree: Tree) -> Tree:
    """Return settings of an earlier version, completed with reference values, so that they keep their meaning."""
    defaults = defaults_for(tree)
    known = {**vars(defaults), "model": defaults.model.options}
    found = {
        section: with_references(type(known[section]), values)
        if section in known and section != "features" and isinstance(values, Mapping)
        else values
        for section, values in tree.items()
    }
    if isinstance(sets := found.get("features"), Mapping):
        found["features"] = with_all_references(sets)
    return found


def of_champion(run: Run, changes: Tree) -> Settings:
    """Return the champion's settings with some changes. Sections in _JUDGING come from the store."""
    tree = usable(run.store, run.file(SETTINGS), run.settings)
    kept = {name: values for name, values in _remembered(run.store).items() if name in _JUDGING}
    return checked(changed({**tree, **_with_references(kept)}, in_current_form(changes, tree)))


def remember(store: Store, settings: Settings) -> None:
    """Store the settings as defaults for later commands on the same store. Prints what changes."""
    tree = json.loads(json.dumps(to_tree(settings)))
    before = _remembered(store)
    if before == tree:
        return
    store.write_json(SETTINGS, tree)
    known = _in_todays_form(before)
    if differences := list(_differences({**known, "engine": {}}, tree)):  # the engine does not affect results
        console.note(f"The settings of {store.url} have changed: {listed(differences, 20)}.")


def _differences(before: Tree, after: Tree, prefix: str = "") -> Iterator[str]:
    """Yield differences such as `visual.key_frames 8 -> 4`, for names in both: others came with a model or version."""
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            yield f"{prefix}{name} {json.dumps(old)} -> {json.dumps(new)}"
