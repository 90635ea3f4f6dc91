"""The store of an early version that is kept in the repository."""

import tarfile
from pathlib import Path

from nmcl.pipeline.storage.store import Store

ARCHIVE = Path(__file__).parents[2] / "data" / "store-28a06ff.tar.xz"


def unpacked(folder: Path) -> Store:
    """Return the store, unpacked into a folder. Its crawl is no longer there."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return Store.open(folder / "out")
