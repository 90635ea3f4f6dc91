"""The small job that is disturbed, made once, and who runs its commands."""

from collections.abc import Iterator

import pytest

from tests.faults.disks import Disk, failing_disk
from tests.faults.world import STAGES, WITHOUT_SERVER, World, make_world
from tests.forms import LONG


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Crawls, and stores before and after each stage."""
    return make_world(tmp_path_factory.mktemp("world"), STAGES if LONG else WITHOUT_SERVER)


@pytest.fixture(scope="session")
def world_of_two_parts(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same crawls in few parts, quickly done: the writes of each part are the same, and every one is tried."""
    quick = ("ingest.part_size=13", "media.workers=1", "completion.method=mean")
    return make_world(tmp_path_factory.mktemp("two"), WITHOUT_SERVER, quick)


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """Runs commands that start no server, quickly; its writes fail when asked to."""
    with failing_disk(tmp_path_factory.mktemp("disk")) as found:
        yield found
