"""Export of a store's feature sets: which artifacts, splits and values are written, and where."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nmcl.flows.feature_settings import require_known
from nmcl.flows.run.lineage import FrozenStates, frozen_of
from nmcl.flows.run.plan import Plan
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.export.files import recipe_path, require_fit, require_free, write_export
from nmcl.pipeline.export.record import Export, Missing, Written
from nmcl.pipeline.export.registry import format_of
from nmcl.pipeline.export.source import Source, export_of
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Split, Video
from nmcl.pipeline.storage.artifacts import Artifact, has_state, modality_of
from nmcl.pipeline.storage.lineage import completed_with
from nmcl.pipeline.storage.runs import Run, run_of
from nmcl.pipeline.storage.store import Store

SplitSource = Literal["given", "run"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to read of a store."""

    features: tuple[str, ...] = ()
    """Names of feature sets; empty: all."""
    missing: Missing | None = None
    """None: completed where the store has completed vectors, else zero."""
    split: SplitSource | None = None
    """None: those of a run if there is one, else those of the manifest."""
    run: str | None = None
    """None: the champion, else the latest run."""
    sequences: bool = False
    """Whether to require sequences."""

    @property
    def with_sequences(self) -> bool:
        """Whether sequences are read where the store has them."""
        return self.sequences


@dataclass(frozen=True)
class ExportRequest(Selection):
    """One export as the user asked for it."""

    format: str
    to: Path
    force: bool = False

    def check(self) -> None:
        """Raise UserError if this cannot be written, before anything is read."""
        require_free(self.format, self.to, self.force)
        require_fit(self.missing, self.format)
        if self.sequences and format_of(self.format).sequences == "never":
            raise UserError(f"The format {self.format} has no place for sequences. Leave --sequences out.")

    @property
    def with_sequences(self) -> bool:
        """Whether sequences are read where the store has them."""
        return self.sequences or format_of(self.format).sequences == "always"

    @property
    def recipe(self) -> Path:
        """File of the recipe."""
        return recipe_path(format_of(self.format), self.to)


def wanted(text: str) -> ExportRequest:
    """Return the export that `FORMAT=PATH` or `FORMAT` names. It may replace an earlier export, but nothing else.

    Raises:
        UserError: There is no such format, or something else is in its place.
    """
    name, _, path = text.partition("=")
    form = format_of(name)
    found = ExportRequest(name, Path(path or form.default))
    found = ExportRequest(name, found.to, force=found.recipe.exists())
    found.check()
    return found


def read(plan: Plan, request: Selection, progress: Progress = silent) -> Export:
    """Return what is to be exported, ready to be written.

    Raises:
        UserError: A feature set or a run does not exist, or something was not extracted yet.
    """
    store, run = plan.store, run_of(plan.store, request.run)
    notes: list[str] = []
    sources = _sources(plan, run, request, notes)
    missing = request.missing or ("completed" if any(source.completed for source in sources) else "zero")
    if missing == "completed" and not any(source.completed for source in sources):
        raise StoreError(
            f"{store.url} has no completed vectors for these features. Make them: `nmcl complete --out {store.url}`, "
            "or use --missing zero."
        )
    if request.missing is None:
        notes.append(
            "Missing vectors are completed, see --missing."
            if missing == "completed"
            else "Missing vectors are zeros: the store has no completed ones for these features. See --missing."
        )
    splits, split_source = splits_of(plan.videos, run, request.split, store, notes)
    export = export_of(
        store,
        plan.catalogue,
        plan.videos,
        splits,
        sources,
        missing,
        request.with_sequences,
        split_source,
        tuple(notes),
        progress,
    )
    if request.sequences and not any(feature.sequences for feature in export.features):
        raise StoreError(
            "No feature set has sequences, only pooled vectors. Extract with the setting `sequence = true` of its "
            "section, or read them without sequences."
        )
    return export


def write(export: Export, request: ExportRequest) -> Written:
    """Write an export. See `nmcl.pipeline.export.files.write_export`."""
    return write_export(export, request.format, request.to, request.force)


def _sources(plan: Plan, run: Run | None, request: Selection, notes: list[str]) -> list[Source]:
    """Return the feature sets of the settings of the store; those of the run if it is named, or nothing else is there.

    Raises:
        StoreError: Some videos are not extracted.
        UserError: A wanted feature set does not exist.
    """
    lacking = ""
    for where, sources in _candidates(plan, run, request):
        chosen = _chosen(sources, request.features)
        absent = [s.vectors for s in chosen if not _is_whole(plan, s.vectors)]
        if not absent:
            notes.append(f"Features {where}.")
            return chosen
        lacking = lacking or absent[0].folder
    raise StoreError(
        f"{plan.store.url} lacks parts of {lacking}: some videos are not extracted. "
        f"Extract them first: `nmcl extract --out {plan.store.url}`."
    )


def _candidates(plan: Plan, run: Run | None, request: Selection) -> Iterator[tuple[str, list[Source]]]:
    if run is not None and request.run is not None:
        yield f"of {run.folder}", _of_run(plan, frozen_of(run))
        return
    own = _plan_for(plan, request.features)
    completed = own.completed if _is_completed(own) else None
    yield "of the store's settings", _listed(plan, own.features, own.states, completed, own.completion)
    if run is not None and run.is_trained:
        yield f"of {run.folder}, as those of the store's settings are not extracted", _of_run(plan, frozen_of(run))


def _of_run(plan: Plan, frozen: FrozenStates) -> list[Source]:
    completed = completed_with(frozen.completion.address)
    filled = completed if _is_whole(plan, completed) else None
    return _listed(plan, frozen.features, frozen.states, filled, frozen.completion)


def _listed(
    plan: Plan,
    features: Mapping[Any, Artifact],
    states: Mapping[Any, Artifact],
    completed: Artifact | None,
    completion: Artifact,
) -> list[Source]:
    return [
        Source(
            name=name,
            modality=modality_of(plan.store, artifact.folder),  # of a run whose sets the settings may not have
            vectors=artifact,
            completed=completed,
            made_from=(*((states[name],) if name in states else ()), *((completion,) if completed else ())),
        )
        for name, artifact in features.items()
    ]


def _plan_for(plan: Plan, names: Collection[str]) -> Plan:
    """Return the plan of the wanted sets alone if they were completed together, and all sets were not."""
    if not names or _is_completed(plan) or not plan.settings.features.keys() >= set(names):
        return plan
    alone = replace(plan, settings=plan.settings.only(names))
    return alone if _is_completed(alone) else plan


def _is_completed(plan: Plan) -> bool:
    return has_state(plan.store, plan.completion) and _is_whole(plan, plan.completed)


def _is_whole(plan: Plan, artifact: Artifact) -> bool:
    return plan.store.has_all(artifact.part(part.key) for _, part in plan.catalogue.parts())


def _chosen(sources: Sequence[Source], names: Sequence[str]) -> list[Source]:
    by_name = {source.name: source for source in sources}
    require_known(names, by_name)
    return [by_name[name] for name in dict.fromkeys(names)] or list(sources)


def splits_of(
    videos: Sequence[Video], run: Run | None, source: SplitSource | None, store: Store, notes: list[str]
) -> tuple[list[Split | None], str]:
    """Return the split of each video, and where it comes from.

    Args:
        notes: Gets a sentence about it.

    Raises:
        StoreError: The splits of a run are wanted, and there is no run, or it did not store them.
    """
    of_run = run.splits if run is not None and source != "given" else None
    if run is not None and of_run is not None:
        first: dict[str, str] = {}
        for video in videos:
            if video.venue is not None:
                first.setdefault(video.sha256, video.venue)
        notes.append(f"Splits of {run.folder}.")
        # A copy with another label, and an unlabelled one, is in no split of a run.
        return [of_run.get(v.sha256) if v.venue and first[v.sha256] == v.venue else None for v in videos], run.folder
    if source == "run":
        found = f"{run.folder} did not store its splits" if run else "it has no run"
        raise StoreError(f"{store.url} has no splits of a run: {found}. Use --split given, or train: `nmcl run`.")
    given = [video.split for video in videos]
    notes.append("Splits of the manifest." if any(given) else "No video has a split.")
    return given, "the manifest" if any(given) else "none"
