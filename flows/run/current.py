"""The artifacts that belong to a store's settings and catalogue, found by their recipes; imports no extractor.

`nmcl.flows.run.plan` computes exact addresses, and imports torch for that. Here artifacts are recognised: those of a
finished run with the same settings, or else those whose recipes name the same settings and videos. Versions of code and
weights are not compared, so that after an upgrade `nmcl run` may have more to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from pydantic import ValidationError

from nmcl.pipeline.addressing import REMOVED, with_references
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.records import MODALITIES, Video
from nmcl.pipeline.stages.fit import sample
from nmcl.pipeline.stages.splits import Splits, SplitSettings
from nmcl.pipeline.storage.artifacts import SETTINGS_IN_FULL, Artifact, addresses_of, digest, has_state
from nmcl.pipeline.storage.catalogue import Catalogue
from nmcl.pipeline.storage.lineage import decoding_of, made_from, stored_artifact
from nmcl.pipeline.storage.runs import SETTINGS, Run, all_runs, champion
from nmcl.pipeline.storage.shapes import adapter
from nmcl.pipeline.storage.store import Store

T = TypeVar("T")
_SECTIONS = ("split", "media", "subtitles", "ocr", "features", "visual", "acoustic", "textual", "completion", "model")
"""Sections of the settings that decide a result; the last versions have `features` in place of the three sets."""
_OF_MACHINE = ("device", "timeout_s", "memory_mb", "workers", "max_fetch_mb", "max_failed_share", *REMOVED)
"""Settings that decide no result."""


@dataclass(frozen=True)
class Current:
    """Artifacts of the present settings; None where there are none yet."""

    features: Mapping[str, Artifact | None]
    """Vectors by feature set."""
    states: Mapping[str, Artifact] = field(default_factory=dict)
    """States of the fitted extractors that are known."""
    unfitted: tuple[str, ...] = ()
    """Feature sets whose extractor has to be fitted first."""
    completion: Artifact | None = None
    completed: Artifact | None = None
    run: Run | None = None
    is_of_run: bool = False
    """Whether everything is that of a run, whose crawls may be fewer than those of the store."""

    @property
    def decoding(self) -> Any:
        """What decided the frames and waveforms, as in recipes; None if nothing was decoded."""
        return decoding_of({name: artifact for name, artifact in self.features.items() if artifact})


def current(store: Store, catalogue: Catalogue, videos: Sequence[Video], splits: Splits) -> Current:
    """Return the artifacts that the settings of a store use for its ingested videos.

    Args:
        videos: All rows of the catalogue.
        splits: Their splits.
    """
    tree = store.read_json(SETTINGS) if store.exists(SETTINGS) else {}
    best = champion(store)
    runs = [run for run in ([best] if best else []) + all_runs(store) if _is_of(run, tree)]
    rows = {part.rows for _, part in catalogue.parts()}
    for run in runs:
        if {part.rows for _, part in run.catalogue.parts()} == rows:
            return _of_run(run)
    found = _Recognised(store, tree, videos, splits).current
    if runs and best and runs[0].folder == best.folder:
        of_best = _of_run(best)
        made = [*found.features.values(), *found.states.values()]
        own = {artifact.folder for artifact in (*of_best.features.values(), *of_best.states.values()) if artifact}
        if all(artifact is None or artifact.folder in own for artifact in made):  # nothing was made for more videos
            return of_best
    return found


def split_settings(store: Store) -> SplitSettings:
    """Return how the settings of a store split its videos."""
    return _section(store, SplitSettings, store.read_json(SETTINGS) if store.exists(SETTINGS) else {}, "split")


def _section(store: Store, kind: type[T], tree: Mapping[str, Any], name: str) -> T:
    """Return a section of stored settings of any version; settings that this version does not know are ignored."""
    values = with_references(kind, tree.get(name, {})) if tree else {}
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    try:
        found: T = adapter(kind).validate_python({key: value for key, value in values.items() if key in known})
    except ValidationError as error:
        raise store.damaged(SETTINGS, f"{name}: {error.errors()[0]['msg']}") from error
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a part of a recipe or of settings; an empty one if another version or another program wrote other JSON."""
    return value if isinstance(value, Mapping) else {}


def _is_of(run: Run, tree: Mapping[str, Any]) -> bool:
    """Return whether a finished run was made with these settings."""
    if not (run.is_finished and run.store.exists(run.file(SETTINGS))):
        return False
    own = run.settings
    has_same_sets = _names(own) == _names(tree)
    return has_same_sets and all(_agrees(own[name], tree[name]) for name in _SECTIONS if name in own and name in tree)


def _names(tree: Mapping[str, Any]) -> list[str]:
    """Return the feature sets of settings, of any version."""
    sets = tree.get("features")
    if not isinstance(sets, Mapping):
        return sorted(MODALITIES)
    return sorted(name for name, own in sets.items() if not isinstance(own, Mapping) or own.get("extractor") != "none")


def _agrees(own: Any, other: Any) -> bool:
    """Return whether two settings are equal as far as both are known and decide a result."""
    if isinstance(own, Mapping) and isinstance(other, Mapping):
        return all(_agrees(own[name], other[name]) for name in own.keys() & other.keys() if name not in _OF_MACHINE)
    return bool(own == other)


def _of_run(run: Run) -> Current:
    made = made_from(run)
    return Current(made.features, made.states, (), made.completion, made.completed, run, is_of_run=True)


@dataclass(frozen=True)
class _Recognised:
    """Artifacts of a store that no finished run was made from, by their recipes."""

    store: Store
    tree: Mapping[str, Any]
    videos: Sequence[Video]
    splits: Splits

    @cached_property
    def fit_videos(self) -> list[Video]:
        """Videos that extractors and completer are fitted on: see `nmcl.flows.run.plan.Plan.fit_rows`."""
        assigned = list(zip(self.videos, self.splits.assignments, strict=True))
        held_out = {video.sha256 for video, a in assigned if a.split in ("validation", "test")}
        return [video for video in self.videos if video.sha256 not in held_out]

    @property
    def current(self) -> Current:
        states: dict[str, Artifact] = {}
        features = {name: self._features(name, states) for name in _names(self.tree)}
        made = {name: artifact for name, artifact in features.items() if artifact}
        for name in features.keys() - made.keys():
            for artifact in self._stored("states", name):
                if self._is_same(name, artifact) and self._is_fitted_here(artifact):
                    states[name] = artifact
        unfitted = tuple(name for name in features.keys() - states.keys() if self._is_fitted(name))
        completion = self._completion(made) if len(made) == len(features) else None
        if completion is None:
            return Current(features, states, unfitted)
        completed = Artifact("completed/all", {"completion": completion.address})
        return Current(features, states, unfitted, completion, completed, self._run(completed))

    def _stored(self, kind: str, name: str) -> list[Artifact]:
        """Return the artifacts of a kind and name whose recipes can be read, the latest version of code first."""
        found = []
        for folder in self.store.list(kind):
            if folder.rsplit("-", 1)[0] == name:
                try:
                    found.append(stored_artifact(self.store, f"{kind}/{folder}"))
                except StoreError:  # an interrupted command may leave a folder without a recipe
                    continue
        return sorted(found, key=lambda artifact: str(artifact.recipe.get("code_version", "")), reverse=True)

    def _features(self, name: str, states: dict[str, Artifact]) -> Artifact | None:
        for artifact in self._stored("features", name):
            address = artifact.recipe["state"]
            if not self._is_same(name, artifact):
                continue
            if address is None:
                return artifact
            try:
                state = stored_artifact(self.store, f"states/{name}-{address}")
            except StoreError:
                continue
            if self._is_fitted_here(state):
                states[name] = state
                return artifact
        return None

    def _is_same(self, name: str, artifact: Artifact) -> bool:
        """Return whether an artifact of a feature set was made with the present settings."""
        own = _mapping(_mapping(artifact.settings.get("features")).get(name))
        if "decoding" in artifact.recipe and artifact.recipe["decoding"] != self._decoding:
            return False
        return _agrees(own, self._settings(name))

    def _settings(self, name: str) -> Mapping[str, Any]:
        """Return the settings of a feature set, of any version."""
        return _mapping(_mapping(self.tree.get("features", self.tree)).get(name))

    def _is_fitted(self, name: str) -> bool:
        """Return whether an extractor is fitted, as far as its settings show it."""
        return "fit_videos" in self._settings(name)

    @cached_property
    def _decoding(self) -> dict[str, object]:
        return _section(self.store, MediaSettings, self.tree, "media").address()

    def _is_fitted_here(self, state: Artifact) -> bool:
        """Return whether a state was fitted on the present videos. Those on other texts are taken to be."""
        own: Any = next(iter(_mapping(state.settings.get("features")).values()), {})
        n_videos = _mapping(own).get("fit_videos")
        if not isinstance(n_videos, int) or "texts" in state.recipe:
            return True
        is_text = "decoding" not in state.recipe
        videos = [video for video in self.fit_videos if video.description] if is_text else self.fit_videos
        left_out = [_mapping(video) for video in state.recipe.get("left_out") or ()]
        without = {(video.get("crawl"), video.get("video_id")) for video in left_out}
        chosen = [
            v for v in sample(videos, n_videos, self.splits.settings.seed) if (v.crawl, v.video_id) not in without
        ]
        seen = digest([video.description if is_text else video.sha256 for video in chosen])
        return bool(state.recipe.get("videos") == seen)

    def _completion(self, features: Mapping[str, Artifact]) -> Artifact | None:
        wanted = digest(addresses_of(features))
        seen = digest([[video.video_id, video.sha256, video.description] for video in self.fit_videos])
        for artifact in self._stored("states", "completion"):
            is_same = artifact.recipe.get("videos") == seen and digest(artifact.recipe["features"]) == wanted
            settings = artifact.settings.get("completion", {})
            if is_same and _agrees(settings, self.tree.get("completion", {})) and has_state(self.store, artifact):
                return artifact
        return None

    def _run(self, completed: Artifact) -> Run | None:
        """Return a run that was trained on completed vectors with the present settings and labels."""
        assigned = zip(self.videos, self.splits.assignments, strict=True)
        labels = digest([[v.video_id, v.sha256, v.venue, a.split] for v, a in assigned if a.split])
        for run in all_runs(self.store):
            try:
                recipe = run.recipe
            except (StoreError, UserError):
                continue
            if (recipe.get("completed"), recipe.get("labels")) == (completed.address, labels):
                own = _mapping(recipe.get(SETTINGS_IN_FULL)).get("model", {})
                if _agrees(own, self.tree.get("model", {})):
                    return run
        return None


def _in_order(tree: Mapping[str, Any], features: Mapping[str, Artifact]) -> list[str]:
    """Return the names of the feature sets in the order of the settings."""
    sets = tree.get("features")
    return [name for name in (sets if isinstance(sets, Mapping) else MODALITIES) if name in features]
