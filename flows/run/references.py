"""What refers to the artifacts of a store, and the files that nothing refers to any more.

Kept are the runs that are finished, were ever champion, or have a note that `nmcl retrain` reads; everything they were
made from; what the present settings use or would make next; the parts of every catalogue; and the thumbnails that show
most of their videos. Failures, notes of drift, timings and the files of the store itself are always kept.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from nmcl.flows.run.plan import Plan
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.stages.thumbnails import folder_of_thumbnails
from nmcl.pipeline.storage.artifacts import METADATA, RECIPE, TABLES, read_recipe, recipe_file
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, Part, load_catalogue
from nmcl.pipeline.storage.lineage import made_from, texts_folder
from nmcl.pipeline.storage.runs import CATALOGUE, COMPARISON, DRIFT, Run, all_runs, find_run, history
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.usage import Stored, in_safe_order, stored

SETTINGS = "settings"
"""Name of the reference of the present settings."""
_ORDER = ("runs", "completed", "states/completion", "features", "states", "texts", "thumbnails", "videos")
"""Kinds in order of removal: what is made of others comes first."""


@dataclass(frozen=True)
class References:
    """References to artifacts, and the parts that are in a catalogue."""

    to: dict[str, list[str]] = field(default_factory=dict)
    """Folder of an artifact -> runs, catalogues and `settings` that refer to it."""
    keys: set[str] = field(default_factory=set)
    """Keys of the parts of all catalogues."""
    rows: set[str] = field(default_factory=set)
    """Files of the rows of these parts."""
    has_all_parts: bool = True
    """Whether all kept runs have a catalogue; those of early versions have none, and then every part is kept."""

    def add(self, folder: str, by: str) -> None:
        """Add a reference to an artifact."""
        found = self.to.setdefault(folder, [])
        if by not in found:
            found.append(by)

    def add_parts(self, parts: Collection[Part]) -> None:
        """Add the parts of a catalogue."""
        self.keys.update(part.key for part in parts)
        self.rows.update(part.file for part in parts)


def references(store: Store, plan: Plan | None, without: Collection[str] = ()) -> References:
    """Return all references within a store.

    Args:
        plan: Plan of the present settings; None if nothing is ingested.
        without: Folders of runs that are taken as removed.

    Raises:
        StoreError: If it cannot be known what a kept run was made from.
    """
    found = References()
    wanted = plan.run.folder if plan else None
    if plan:
        for folder in _planned(plan):
            found.add(folder, SETTINGS)
    kept = [run for run in _kept_runs(store, wanted) if run.folder not in without]
    has_all_parts = True
    images = plan.extractors.thumbnails if plan else None
    preferred = images.artifact.folder if images else None
    for run in kept:
        found.add(run.folder, run.folder)
        if not store.exists(run.file(RECIPE)):  # stopped by drift, or its files are gone
            continue
        for folder in _made_from(run):
            found.add(folder, run.folder)
        found.add_parts(_parts(run.catalogue))
        if shown := folder_of_thumbnails(store, run.catalogue, preferred):  # without a catalogue: that of the store
            found.add(shown, run.folder)
        has_all_parts &= store.exists(run.file(CATALOGUE)) or not run.is_trained
    names = [TRAINING, *(f"predicted/{name}" for name in store.list("predicted") if name.endswith(".json"))]
    for name in names:
        catalogue = load_catalogue(store, name)
        found.add_parts(_parts(catalogue))
        if shown := folder_of_thumbnails(store, catalogue, preferred):
            found.add(shown, name)
    _add_notes_of_states(store, found)
    return References(found.to, found.keys, found.rows, has_all_parts)


def _made_from(run: Run) -> list[str]:
    try:
        return list(made_from(run).folders())
    except StoreError as error:
        raise StoreError(f"It is not known what {run.folder} was made from, so nothing is removed: {error}") from error


def _parts(catalogue: Catalogue) -> list[Part]:
    return [part for _, part in catalogue.parts()]


def _kept_runs(store: Store, wanted: str | None) -> list[Run]:
    """Return the runs that are not removed on their own account."""
    ever = {entry.run for entry in history(store)} | {wanted, store.target("latest")}
    return [
        run
        for run in all_runs(store)
        if run.folder in ever or run.is_finished or store.exists(run.file(DRIFT)) or store.exists(run.file(COMPARISON))
    ]


def _planned(plan: Plan) -> list[str]:
    """Return the folders of everything that the present settings use or would make."""
    artifacts = [*plan.planned_states.values(), *plan.states.values(), *plan.features.values()]
    artifacts += [*plan.extractors.texts.values(), plan.failures, plan.completion, plan.completed, plan.run]
    artifacts += [images.artifact] if (images := plan.extractors.thumbnails) else []
    of_states = (state.recipe.get("texts") for state in plan.states.values())
    return [
        *(one.folder for one in artifacts),
        *(texts_folder(recipe) for recipe in of_states if recipe),
    ]


def _add_notes_of_states(store: Store, found: References) -> None:
    """Keep the note in the folder of a planned state, if the state that was made in its place is kept."""
    for name in store.list("states"):
        folder = f"states/{name}"
        if folder in found.to or not store.exists(f"{folder}/left_out.json"):
            continue
        videos = store.read_json(f"{folder}/left_out.json")["videos"]
        for other, referring in list(found.to.items()):
            is_same_set = other.startswith(f"{folder.rsplit('-', 1)[0]}-")
            has_recipe = is_same_set and store.exists(recipe_file(store, other))
            if has_recipe and read_recipe(store, other).get("left_out") == videos:
                for by in referring:
                    found.add(folder, by)


@dataclass(frozen=True)
class Unused:
    """Files of one artifact that nothing refers to."""

    folder: str
    names: tuple[str, ...]
    """Files, in order of removal."""
    n_bytes: int
    is_whole: bool
    """Whether it is the whole artifact; else parts of videos that are in no catalogue any more."""


def unused(store: Store, found: References) -> list[Unused]:
    """Return what nothing refers to, in order of removal."""
    rows = []
    for one in stored(store):
        is_whole = one.is_artifact and one.kind not in ("failures", "drift") and one.folder not in found.to
        names = in_safe_order(one.sizes if is_whole else _unused_parts(one, found))
        if names:
            rows.append(Unused(one.folder, tuple(names), sum(one.sizes[name] for name in names), is_whole))
    return sorted(rows, key=lambda row: (_rank(row.folder), row.folder))


def _unused_parts(one: Stored, found: References) -> list[str]:
    if not found.has_all_parts:
        return []
    if one.folder == "videos":
        return [name for name in one.sizes if name.startswith("videos/part-") and name not in found.rows]
    if one.kind not in TABLES or one.kind == "failures":
        return []
    return [name for name in one.sizes if (key := _key(name)) and key not in found.keys]


def _key(name: str) -> str | None:
    """Return the key of the part that a file of an artifact, or its digest, belongs to."""
    last = name.rsplit("/", 1)[-1]
    return last.removeprefix("part-").split(".")[0] if last.startswith("part-") else None


def _rank(folder: str) -> int:
    return next(rank for rank, kind in enumerate(_ORDER) if folder.startswith(kind))


def remove(store: Store, rows: Sequence[Unused]) -> None:
    """Remove files, one by one in their order: after a kill the store verifies, and the same command goes on."""
    for row in rows:
        for name in row.names:
            store.remove(name)
    for kind in ("runs", "completed", "features", "states", "texts", "thumbnails"):
        for folder in (f"{kind}/{name}" for name in store.list(kind)):
            store.remove_folder_if_empty(folder)
    for row in rows:
        store.remove_folder_if_empty(f"{METADATA}/{row.folder}")


def require_removable(store: Store, names: Sequence[str]) -> list[str]:
    """Return the folders of runs that may be removed by name.

    Raises:
        UserError: If a run was ever champion, or is the latest.
    """
    folders = [find_run(store, name).folder for name in names]
    ever = {entry.run for entry in history(store)}
    for folder in folders:
        if folder in ever:
            raise UserError(f"{folder} is or was the champion of {store.url}, and is kept. Name other runs.")
        if store.leads("latest", folder):
            raise UserError(f"{folder} is the latest run of {store.url}, and is kept. Name other runs.")
    return folders
