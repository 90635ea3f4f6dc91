"""The trap that all attacks reach for, and who runs commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.watching import Trap, trap
from tests.faults.disks import Disk, failing_disk
from tests.faults.world import World, make_world


@pytest.fixture(scope="session")
def caught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    """A canary and a listener. `check` is called after every attack."""
    with trap(tmp_path_factory.mktemp("outside") / "trap") as found:
        yield found


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """Runs commands that start no server, quickly."""
    with failing_disk(tmp_path_factory.mktemp("disk")) as found:
        yield found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run."""
    world: World = make_world(
        tmp_path_factory.mktemp("world"), ("ingest", "fit", "extract", "complete", "train", "evaluate")
    )
    return world.after("evaluate") / "out"
