"""The run whose pages are tested."""

from pathlib import Path

import pytest

from nmcl.pipeline.storage.runs import Run, champion
from nmcl.pipeline.storage.store import Store


@pytest.fixture(scope="module")
def run(trained: Path) -> Run:
    found = champion(Store.open(trained))
    assert found
    return found
