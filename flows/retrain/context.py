"""A champion and the challenger that is to be: what both know, and where the challenger goes."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nmcl.flows.retrain.new_data import (
    News,
    content,
    joining,
    with_news,
)
from nmcl.flows.run.lineage import Lineage, is_same_run, lineage_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Tree, is_of_machine, merged
from nmcl.flows.stored_settings import of_champion
from nmcl.model.trained import can_start_warm
from nmcl.pipeline.errors import SettingsError, StoreError
from nmcl.pipeline.storage import champions, shapes
from nmcl.pipeline.storage.artifacts import digest, hashed_part
from nmcl.pipeline.storage.catalogue import load_catalogue
from nmcl.pipeline.storage.store import Store

LEARNT = ("visual", "acoustic", "textual", "completion")
"""Sections of the settings that decide the champion's states; they change only with `refit`."""


@dataclass(frozen=True)
class Options:
    """How a challenger is made."""

    warm_start: bool = False
    """Start from the champion's weights."""
    refit: bool = False
    """Let extractors and completer learn anew from all crawls, beside those there are."""
    allow_drift: bool = False
    """Go on where the crawls have drifted beyond the limits."""


@dataclass(frozen=True)
class Case:
    """A champion, what is new, and the challenger that is to be."""

    champion: str
    """Folder of its run."""
    lineage: Lineage
    news: tuple[News, ...]
    view: Plan
    """All videos, old and new, as the champion sees them."""
    challenger: Plan

    @property
    def store(self) -> Store:
        """Where all of it lies."""
        return self.view.store

    @property
    def run(self) -> str:
        """Folder of the challenger."""
        return self.challenger.run.folder

    def refreshed(self) -> "Case":
        """The same after extraction. See `Plan.refreshed`."""
        view = self.view.refreshed()
        return replace(self, view=view, challenger=view if self.challenger is self.view else self.challenger)

    def contents(self) -> dict[str, str]:
        """Digest of each crawl that joins, to know it again."""
        return self._contents({news.crawl for news in self.news})

    def fresh(self) -> dict[str, str]:
        """The same of those that bring videos."""
        return self._contents({news.crawl for news in self.news if news.n_videos})

    def _contents(self, names: Set[str]) -> dict[str, str]:
        crawls = load_catalogue(self.store).crawls
        return {crawl.name: content(crawl) for crawl in crawls if crawl.name in names}

    @property
    def has_same_data(self) -> bool:
        """Whether the challenger would learn from what the champion learnt from, in the same way."""
        recipe = self.store.read_json(f"{self.champion}/recipe.json")
        return is_same_run(hashed_part(recipe), self.challenger.run)

    @property
    def notes(self) -> str:
        """Folder of `drift.json`: the challenger's, but one of its own for videos from which no challenger learns."""
        if self.has_same_data or self._was_decided_without():
            return f"drift/{digest([self.champion, self.fresh()])}"
        return self.run

    def _was_decided_without(self) -> bool:
        """Whether the same challenger was compared with this champion before some of the videos came."""
        name = f"{self.run}/comparison.json"
        if not self.store.exists(name):
            return False
        note = self.store.read_json(name, shapes.Comparison)
        return note["champion"] == self.champion and not self.fresh().items() <= note["crawls"].items()


def settings_for(context: Context, changes: Tree, options: Options) -> Context:
    """The context with the champion's settings and some changes.

    Raises:
        SettingsError: what was learnt is to change, without `refit`; or options that exclude each other.
        StoreError: there is no champion, or it does not tell where it comes from.
    """
    run = champions.champion(context.store)
    if run is None:
        raise StoreError(f"{context.store.url} has no champion yet. Train one: `nmcl run CRAWL`.")
    if options.refit and options.warm_start:
        raise SettingsError("--warm-start needs the champion's vectors, --refit makes others. Choose one of them.")
    refused = [name for name, values in changes.items() if name in LEARNT and not is_of_machine(name, values)]
    if refused and not options.refit:
        raise SettingsError(
            f"{refused[0]}.* cannot change between champion and challenger: their vectors would differ. "
            f"Retrain with --refit, which makes new vectors of all crawls."
        )
    lineage_of(context.store, run)  # before a crawl is ingested, not after
    tolerant = {"drift": {"stop": False}} if options.allow_drift else {}
    return replace(context, settings=of_champion(context.store, run, merged(changes, tolerant)))


def prepare(context: Context, named: Sequence[str | Path] | None, options: Options) -> Case:
    """What is new, and the challenger's plan. The named crawls are ingested.

    Args:
        named: folders; None: all that the store knows, but for those that were found doubtful as they are now.
    """
    store = context.store
    champion = champions.champion(store)
    assert champion is not None  # settings_for has seen to it
    lineage = lineage_of(store, champion)
    crawls = joining(store, named)
    catalogue, news = with_news(store, lineage.catalogue, crawls)
    warm = options.warm_start and can_start_warm(context.settings.model.name)
    settings = context.settings
    if options.refit:  # the champion still sees what it was trained to see
        own = of_champion(store, champion, {})
        settings = replace(settings, **{section: getattr(own, section) for section in (*LEARNT, "media")})
    view = Plan(store, catalogue, settings, lineage.splits, lineage.frozen, champion if warm else None)
    challenger = replace(view, settings=context.settings, frozen=None) if options.refit else view
    return Case(champion, lineage, tuple(news), view, challenger)


def now() -> str:
    """For the notes of a run: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
