"""Removal of artifacts that a retry makes stale: files made while a video could not be decoded."""

from collections.abc import Sequence

from nmcl.pipeline.crawl.source import CrawlSource
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.artifacts import DIGEST_SUFFIX, RECIPE, Artifact
from nmcl.pipeline.storage.catalogue import Part
from nmcl.pipeline.storage.store import Store


def remove_stale(
    store: Store,
    part: Part,
    failures: Artifact,
    own: Sequence[Artifact],
    decoded: Sequence[Video],
    source: CrawlSource,
) -> None:
    """Remove a part from the features of other settings and from completed vectors, to be made again when needed.

    Features whose files are gone from the crawl are kept, because they could not be made again. Finished runs keep
    their models, scores and predictions.

    Args:
        own: Features that the caller updates itself.
        decoded: Videos of the part that did not fail.
    """
    is_whole = all(source.stat(video.path) is not None for video in decoded)
    for folder in store.list("features") if is_whole else ():
        name = f"features/{folder}"
        recipe = store.read_json(f"{name}/{RECIPE}") if store.exists(f"{name}/{RECIPE}") else {}
        if name not in {a.folder for a in own} and recipe.get("decoding") == failures.recipe["decoding"]:
            remove_part(store, name, part.key)
    for folder in store.list("completed"):
        remove_part(store, f"completed/{folder}", part.key)


def remove_part(store: Store, folder: str, key: str) -> None:
    """Remove one part of an artifact and its digest, if they exist."""
    for suffix in ("", DIGEST_SUFFIX):
        store.remove(f"{folder}/part-{key}.parquet{suffix}")
