"""The inputs of a retraining: the champion, the new data, and the plan of the challenger."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nmcl.flows.retrain.new_data import add_new, content, select_crawls
from nmcl.flows.run.lineage import Lineage, is_same_run, lineage_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import is_of_machine
from nmcl.flows.settings_tree import Tree, agrees, merged
from nmcl.flows.stored_settings import in_current_form, of_champion, usable
from nmcl.model.trained import can_start_warm
from nmcl.pipeline.errors import SettingsError, StoreError
from nmcl.pipeline.storage.artifacts import digest, hashed_part
from nmcl.pipeline.storage.catalogue import load_catalogue
from nmcl.pipeline.storage.run_files import CrawlDiff
from nmcl.pipeline.storage.runs import SETTINGS, Run, champion
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.text import listed

FITTED = ("subtitles", "ocr", "features", "completion")
"""Sections of the settings that decide the champion's states; they change only with `refit`."""


@dataclass(frozen=True)
class Options:
    """Options of a retraining."""

    warm_start: bool = False
    """Start from the champion's weights."""
    refit: bool = False
    """Fit extractors and completer again on all crawls; the earlier ones are kept."""
    allow_drift: bool = False
    """Continue if the crawls have drifted beyond the limits."""
    features: tuple[str, ...] = ()
    """Feature sets of the challenger, some of the champion's; empty: all. Others than the champion's need `refit`."""


@dataclass(frozen=True)
class RetrainContext:
    """The inputs of one retraining."""

    champion: Run
    lineage: Lineage
    """The champion's data and states."""
    diffs: tuple[CrawlDiff, ...]
    """New and known videos of each added crawl."""
    champion_plan: Plan
    """Plan of all videos, old and new, with the champion's extractors and completer."""
    challenger: Plan

    @property
    def store(self) -> Store:
        """The store of both models."""
        return self.challenger.store

    @property
    def run(self) -> Run:
        """The challenger's run."""
        return self.challenger.result

    def refreshed(self) -> "RetrainContext":
        """Return the same inputs after extraction. See `Plan.refreshed`."""
        plan = self.champion_plan.refreshed()
        is_same = self.challenger is self.champion_plan
        return replace(self, champion_plan=plan, challenger=plan if is_same else self.challenger)

    def contents(self) -> dict[str, str]:
        """Return the digest of each added crawl, to recognise it later."""
        return self._contents({diff.crawl for diff in self.diffs})

    def fresh(self) -> dict[str, str]:
        """Return the digest of each added crawl that has new videos."""
        return self._contents({diff.crawl for diff in self.diffs if diff.n_videos})

    def _contents(self, names: Set[str]) -> dict[str, str]:
        crawls = load_catalogue(self.store).crawls
        return {crawl.name: content(crawl) for crawl in crawls if crawl.name in names}

    @property
    def has_same_data(self) -> bool:
        """Whether the challenger would be trained on the champion's data in the same way."""
        return is_same_run(hashed_part(self.champion.recipe), self.challenger.run)

    @property
    def notes(self) -> Run:
        """Folder of the drift note: the challenger's run, or a separate folder if no challenger is trained."""
        if self.has_same_data or self._was_compared_without():
            return Run(self.store, f"drift/{digest([self.champion.folder, self.fresh()])}")
        return self.run

    def _was_compared_without(self) -> bool:
        """Whether the same challenger was compared with this champion before some of the videos were added."""
        note = self.run.comparison
        if note is None or note.champion != self.champion.folder:
            return False
        return not self.fresh().items() <= note.crawls.items()


def settings_for(context: Context, changes: Tree, options: Options) -> Context:
    """Return the context with the champion's settings and some changes.

    Raises:
        SettingsError: settings of fitted states change without `refit`, or options exclude each other.
        StoreError: there is no champion, or its lineage is not recorded.
    """
    run = champion(context.store)
    if run is None:
        raise StoreError(f"{context.store.url} has no champion yet. Train one: `nmcl run CRAWL`.")
    if options.refit and options.warm_start:
        raise SettingsError("--warm-start needs the champion's vectors, --refit makes others. Choose one of them.")
    changes = in_current_form(changes)
    own = usable(run.store, run.file(SETTINGS), run.settings)
    fitted = {name: values for name, values in changes.items() if name in FITTED and not is_of_machine(name, values)}
    refused = [name for name, values in fitted.items() if not agrees(own, {name: values})]
    if refused and not options.refit:
        raise SettingsError(
            f"{refused[0]}.* cannot change between champion and challenger: their vectors would differ. "
            f"Retrain with --refit, which makes new vectors of all crawls."
        )
    lineage_of(run)  # fail before a crawl is ingested
    tolerant = {"drift": {"stop": False}} if options.allow_drift else {}
    settings = of_champion(run, merged(changes, tolerant))
    chosen = settings.only(options.features)
    if len(chosen.features) < len(settings.features) and not options.refit:
        raise SettingsError(
            f"The champion uses the feature sets {listed(settings.features)}, not only {listed(chosen.features)}: its "
            "completer and its model need all of them. Retrain with --refit, which fits new ones."
        )
    return replace(context, settings=chosen)


def prepare(context: Context, named: Sequence[str | Path] | None, options: Options) -> RetrainContext:
    """Ingest the named crawls, and return the new videos and the challenger's plan.

    Args:
        named: folders; None: all crawls that the store knows, except those whose current content was found doubtful.
    """
    store = context.store
    best = champion(store)
    assert best is not None  # checked by settings_for
    lineage = lineage_of(best)
    catalogue, diffs = add_new(store, lineage.catalogue, select_crawls(store, named))
    warm = options.warm_start and can_start_warm(context.settings.model.name)
    settings = context.settings
    if options.refit:  # the champion keeps its own extractors
        own = of_champion(best, {})
        settings = replace(settings, **{section: getattr(own, section) for section in (*FITTED, "media")})
    plan = Plan(store, catalogue, settings, lineage.splits, lineage.frozen, best.folder if warm else None)
    challenger = replace(plan, settings=context.settings, frozen=None) if options.refit else plan
    return RetrainContext(best, lineage, tuple(diffs), plan, challenger)


def now() -> str:
    """Return the current time for the notes of a run: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
