"""The small job that is disturbed, made once."""

import pytest

from tests.faults.world import STAGES, WITHOUT_SERVER, World, make_world
from tests.forms import LONG


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Crawls, and stores before and after each stage."""
    return make_world(tmp_path_factory.mktemp("world"), STAGES if LONG else WITHOUT_SERVER)
