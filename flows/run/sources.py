"""Default crawls and store for runs of a deployment without these parameters."""

from pathlib import Path

from nmcl.flows.feature_settings import with_feature_sets
from nmcl.flows.settings_tree import Tree, merged
from nmcl.pipeline.crawl.sample import make_sample
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.storage.catalogue import load_catalogue
from nmcl.pipeline.storage.runs import SETTINGS
from nmcl.pipeline.storage.store import Store

STORE = "out"
SAMPLE_STORE = "sample/out"
SAMPLE_CRAWL = "sample/crawl"
SAMPLE_SETTINGS: Tree = {
    "features": {"visual": {"extractor": "efficientnet_lite0"}, "acoustic": {"autoencoder": {"min_steps": 300}}}
}
"""Settings whose weights need no network, and whose autoencoder is fitted quickly, as in `make run` without a crawl."""


def store_of(crawl: str | None, out: str | None) -> str:
    """Return the named store; else `out`, or the sample's store if neither a crawl is named nor `out` exists."""
    return out or (STORE if crawl or Path(STORE, "store.json").exists() else SAMPLE_STORE)


def is_sample(store: Store) -> bool:
    """Return whether a store holds the rendered sample, which is no evidence of accuracy."""
    return store.root == str(Path(SAMPLE_STORE).absolute())


def crawls_of(crawl: str | None, store: Store, progress: Progress) -> list[str]:
    """Return the named crawl; else the crawls in the store, to ingest what was added to them.

    For the sample's store, return the sample. It is rendered if it does not exist.

    Raises:
        CrawlError: If no crawl is named, and none of the store's crawls still exists.
    """
    if crawl:
        return [crawl]
    if is_sample(store):
        make_sample(Path(SAMPLE_CRAWL), progress=progress)
        return [SAMPLE_CRAWL]
    known = [known.folder for known in load_catalogue(store).crawls]
    if not (there := [folder for folder in known if crawl_source(folder).exists()]):
        raise CrawlError(f"None of the crawls in {store.url} still exists. Specify one: `--param crawl=DIR`.")
    return there


def require_there(crawl: str | None) -> None:
    """Raise CrawlError if the named crawl does not exist, before a store or a run is made for it."""
    if crawl:
        crawl_source(crawl).require()


def require_videos(crawl: str) -> None:
    """Raise CrawlError unless a crawl exists and holds a video, before it is announced."""
    with crawl_source(crawl).files() as files:
        if not (files.videos or files.on_request):
            raise CrawlError(
                f"No video found in {crawl} or its subfolders. Put videos there, or give another folder. "
                f"{' '.join(files.notes())}".rstrip()
            )


def settings_of(store: Store, changes: Tree | None) -> Tree:
    """Return the settings that a run changes; the sample has its own defaults."""
    is_new_sample = is_sample(store) and not store.exists(SETTINGS)
    return merged(SAMPLE_SETTINGS if is_new_sample else {}, with_feature_sets(changes or {}))
