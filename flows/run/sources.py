"""Which crawls and which store a deployment works on when its run does not name them."""

from pathlib import Path

from nmcl.flows.settings import Tree, merged
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
SAMPLE_SETTINGS: Tree = {"visual": {"backbone": "efficientnet_lite0"}}
"""Weights that need no network, as in `make run` without a crawl."""


def store_of(crawl: str | None, out: str | None) -> str:
    """The store that is named; else `out`, and while there is neither a crawl nor `out`, the sample's."""
    return out or (STORE if crawl or Path(STORE, "store.json").exists() else SAMPLE_STORE)


def is_sample(store: Store) -> bool:
    """Whether a store holds the rendered sample, which is no evidence of accuracy."""
    return store.root == str(Path(SAMPLE_STORE).absolute())


def crawls_of(crawl: str | None, store: Store, progress: Progress) -> list[str]:
    """The crawl that is named; else those that the store knows, to take up what was added to them.

    In the sample's store, the sample: it is rendered where it is not.

    Raises:
        CrawlError: none is named, and none is known and still there.
    """
    if crawl:
        return [crawl]
    if is_sample(store):
        make_sample(Path(SAMPLE_CRAWL), progress=progress)
        return [SAMPLE_CRAWL]
    known = [known.folder for known in load_catalogue(store).crawls]
    if not (there := [folder for folder in known if crawl_source(folder).exists()]):
        raise CrawlError(f"{store.url} knows no crawl that is still there. Name one: `--param crawl=DIR`.")
    return there


def require_there(crawl: str | None) -> None:
    """Raises CrawlError if a crawl is named and nothing is there: before a store or a run is made for it."""
    if crawl:
        crawl_source(crawl).require()


def require_videos(crawl: str) -> None:
    """Raises CrawlError unless a crawl is there and holds a video: before others are told of it."""
    with crawl_source(crawl).files() as files:
        if not (files.videos or files.on_request):
            raise CrawlError(
                f"No video found in {crawl} or its folders. Put videos there, or give another folder. "
                f"{' '.join(files.notes)}".rstrip()
            )


def settings_of(store: Store, changes: Tree | None) -> Tree:
    """What a run changes of the settings; the sample has its own defaults."""
    is_new_sample = is_sample(store) and not store.exists(SETTINGS)
    return merged(SAMPLE_SETTINGS if is_new_sample else {}, changes or {})
